"""Write with the weights of textgenrnn, read by our safe reader into Keras layers: do real words come out?

    pip download --no-deps textgenrnn && tar xzf textgenrnn-*.tar.gz
    python benchmarks/textgenrnn_parity.py textgenrnn-2.0.0/textgenrnn --words ../shared/data/cmudict.tsv.gz

The network reads 40 characters: embeddings, two LSTMs, an average of all three over the characters with learned weights, a
softmax. Its file of 2018 has the weights of Keras 2's CuDNNLSTM in the layout of cuDNN. The package itself no longer runs,
so the check is what the network writes: the share of its words of three letters or more that a dictionary knows, and the
same with one conversion left out, to show that the number means something.
"""

import argparse
import gzip
import json
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from recipes.weights import read_state_dict
from recipes.weights.lstm_names import convert_cudnn

LENGTH, META = 40, "<s>"  # what the network reads, and what begins and ends a text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with textgenrnn_weights.hdf5 and textgenrnn_vocab.json")
    parser.add_argument("--words", required=True, help="gzipped text file with a word at the beginning of each line")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--temperature", type=float, default=0.4)
    arguments = parser.parse_args()
    tensors = read_state_dict(arguments.folder / "textgenrnn_weights.hdf5")
    vocabulary = json.loads((arguments.folder / "textgenrnn_vocab.json").read_text(encoding="utf-8"))
    with gzip.open(arguments.words, "rt", encoding="utf-8") as file:
        known = {re.match(r"[a-z']*", line.lower())[0] for line in file}
    for title, convert in (("cuDNN's layout", convert_cudnn), ("taken as it is", as_it_is)):
        texts = write(build(tensors, convert), vocabulary, arguments.texts, arguments.temperature)
        words = [word for text in texts for word in re.findall(r"[a-z']{3,}", text.lower())]
        share = np.mean([word in known for word in words]) if words else 0.0
        print(f"{title}: {share:.1%} of {len(words)} words are in the dictionary")
        for text in texts[:6]:
            print(f"    {text!r}")


def build(tensors, convert):
    """The network of textgenrnn with its weights: ids `(batch, 40)` to probabilities `(batch, characters)`."""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    embedding = keras.layers.Embedding(*tensors["embedding/embeddings"].shape, name="embedding")
    lstms = [keras.layers.LSTM(128, return_sequences=True, name=f"rnn_{i}") for i in (1, 2)]
    embedded = embedding(ids)
    first = lstms[0](embedded)
    x = keras.layers.Concatenate(name="rnn_concat")([embedded, first, lstms[1](first)])  # (batch, 40, 356)
    score = keras.layers.Dense(1, use_bias=False, name="attention")
    weights = keras.layers.Softmax(axis=1, name="attention_weights")(score(x))  # (batch, 40, 1)
    x = keras.layers.Flatten(name="attended")(keras.layers.Dot(axes=1, name="attention_average")([weights, x]))
    output = keras.layers.Dense(tensors["output/bias"].shape[0], "softmax", name="output")
    model = keras.Model(ids, output(x))
    embedding.set_weights([tensors["embedding/embeddings"]])
    for layer in lstms:
        layer.set_weights(convert(*(tensors[f"{layer.name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias"))))
    score.set_weights([tensors["attention/attention_W"]])
    output.set_weights([tensors["output/kernel"], tensors["output/bias"]])
    return model


def as_it_is(kernel, recurrent_kernel, bias):
    return [kernel, recurrent_kernel, sum(np.split(bias, 2))]


def write(model, vocabulary, count, temperature, longest=120):
    """Return `count` texts that the network writes, each from the sign that begins one."""
    random, characters = np.random.default_rng(0), {i: c for c, i in vocabulary.items()}
    ids = np.zeros((count, LENGTH), "int32")  # 0 fills up on the left
    ids[:, -1] = vocabulary[META]
    texts, running = [""] * count, np.ones(count, bool)
    for _ in range(longest):
        logits = np.log(keras.ops.convert_to_numpy(model.predict_on_batch(ids)).astype("float64") + 1e-7) / temperature
        logits[:, 0] = -np.inf
        chosen = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
        running &= chosen != vocabulary[META]
        texts = [text + characters[i] if go else text for text, i, go in zip(texts, chosen, running, strict=True)]
        ids = np.concatenate([ids[:, 1:], chosen[:, None]], axis=1)
        if not running.any():
            break
    return texts


if __name__ == "__main__":
    main()
