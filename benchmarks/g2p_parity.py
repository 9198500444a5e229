"""Let our recurrent encoder-decoder say English words with the weights of g2p-en, and compare with its own reference.

    pip download --no-deps --dest FOLDER g2p-en==2.1.0
    python benchmarks/g2p_parity.py FOLDER/g2p_en-2.1.0-py3-none-any.whl --data DATA/cmudict.tsv.gz [--words 200]

g2p-en says words that its dictionary lacks by a GRU encoder-decoder without attention, `checkpoint20.npz`, which is torch's
GRU in numpy. Half of the words come from cmudict, half are drawn letter by letter, because nobody has a dictionary of those.
The sounds must be the same for every word, and the logits within 1e-4 of their standard deviation. The reference is the
package's `G2p.predict`, taken from the wheel, without what else the package imports.
"""

import argparse
import ast
import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
PADDING, UNKNOWN, END = 0, 1, 2  # among the letters
START_SOUND, END_SOUND = 2, 3
MOST = 20  # sounds
NOT_NEEDED = ("cmu", "homograph", "load_variables")  # in the reference's `__init__`: what reads files or needs nltk
SIZES = {"vocabulary_size": 29, "target_vocabulary_size": 74, "start_id": START_SOUND, "end_id": END_SOUND}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--words", type=int, default=200)
    arguments = parser.parse_args()
    tensors, reference = read_wheel(arguments.wheel)
    words = draw_words(arguments.data, arguments.words)
    sys.exit(not compare(words, tensors, reference))


def compare(words, tensors, reference):
    """Print how far ours is from the reference; return whether it is the same."""
    import keras

    import recipes
    from recipes.weights import assign

    model = recipes.seq2seq(variant="g2p", **SIZES)
    assign(model, g2p_names(), our_tensors(tensors))
    letters = [[reference.g2idx.get(letter, UNKNOWN) for letter in word] + [END] for word in words]
    ours = recipes.generate(model, letters, max_new_tokens=MOST, temperature=0)
    ours = [[reference.idx2p[sound] for sound in sounds] for sounds in ours]
    theirs = [reference.predict(word) for word in words]
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    for word, sounds, others in zip(words, ours, theirs, strict=True):
        if sounds != others:
            print(f"{word}: ours {' '.join(sounds)}, theirs {' '.join(others)}")
    for word, sounds in list(zip(words, ours, strict=True))[:: len(words) // 6]:
        print(f"{word}: {' '.join(sounds)}")
    print(f"{same} of {len(words)} words sound the same; {len({tuple(sounds) for sounds in ours})} are different")

    difference = compare_logits(model, letters, theirs, reference)
    print(f"largest difference of the logits over their standard deviation: {difference:.1e}, allowed {TOLERANCE:g}")
    print(f"g2p-en 2.1.0; ours: keras {keras.__version__} on {keras.backend.backend()}, {model.count_params():,} parameters")
    return same == len(words) and difference <= TOLERANCE


def compare_logits(model, letters, sounds, reference):
    """Return the largest difference of the logits of all words, when both read the reference's sounds."""
    spoken = [[START_SOUND, *(reference.p2idx[sound] for sound in word)] for word in sounds]
    ours = model.predict({"source": padded(letters), "target": padded(spoken)}, verbose=0)
    theirs = []
    for word, ids in zip(letters, spoken, strict=True):
        state = run_gru(reference, "enc", word, None)[:, -1]
        theirs.append(run_gru(reference, "dec", ids, state)[0] @ reference.fc_w.T + reference.fc_b)
    differences = [np.abs(row[: len(other)] - other).max() for row, other in zip(ours, theirs, strict=True)]
    return max(differences) / np.concatenate(theirs).std()


def padded(rows):
    found = np.full((len(rows), max(map(len, rows))), PADDING, "int32")
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return found


def run_gru(reference, part, ids, state):
    weights = [getattr(reference, f"{part}_{name}") for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    return reference.gru(getattr(reference, f"{part}_emb")[ids][None], len(ids), *weights, h0=state)


# ------------------------------------------------------------------------------------------------------ the weights


def g2p_names():
    """Return `{variable path: (name, axes)}`, as `assign` takes it."""
    names = {
        "source_embedding/embeddings": ("enc_emb", None),
        "target_embedding/embeddings": ("dec_emb", None),
        "logits/kernel": ("fc_w", (1, 0)),
        "logits/bias": ("fc_b", None),
    }
    for ours, theirs in {"encoder0": "enc", "decoder0": "dec"}.items():
        names[f"{ours}/gru_cell/kernel"] = (f"{theirs}_w_ih", (1, 0))
        names[f"{ours}/gru_cell/recurrent_kernel"] = (f"{theirs}_w_hh", (1, 0))
        names[f"{ours}/gru_cell/bias"] = (f"{theirs}_b", None)
    return names


def our_tensors(tensors):
    """Return the tensors with Keras' order of the gates, update before reset, and both biases of a GRU in one."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(("enc_w", "enc_b", "dec_w", "dec_b")):
            reset, update, new = np.split(tensor, 3)
            tensor = np.concatenate([update, reset, new])
        found[name] = tensor
    for part in ("enc", "dec"):
        found[f"{part}_b"] = np.stack([found.pop(f"{part}_b_ih"), found.pop(f"{part}_b_hh")])
    return found


# ---------------------------------------------------------------------------------------------------- the reference


def read_wheel(path):
    """Return the tensors of the wheel, and its `G2p` without the dictionaries and taggers it would load."""
    with zipfile.ZipFile(path) as wheel:
        with np.load(io.BytesIO(wheel.read("g2p_en/checkpoint20.npz")), allow_pickle=False) as file:
            tensors = {name: file[name] for name in file.files}
        tree = ast.parse(wheel.read("g2p_en/g2p.py").decode("utf-8"))
    kind = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "G2p")
    start = next(node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    start.body = [line for line in start.body if not any(word in ast.unparse(line) for word in NOT_NEEDED)]
    scope = {"np": np}
    exec(compile(ast.Module([kind], []), str(path), "exec"), scope)
    reference = scope["G2p"]()
    for name, tensor in tensors.items():
        setattr(reference, name, tensor)
    return tensors, reference


def draw_words(path, count):
    """Return words, the same every time: half real, half not."""
    random = np.random.default_rng(0)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        known = [word for word in (line.split("\t")[0] for line in file) if word.isascii() and word.isalpha()]
    words = random.choice(known, count - count // 2, replace=False).tolist()
    letters = list("etaoinshrdlcumwfgypbvkjxqz")
    return words + ["".join(random.choice(letters, length)) for length in random.integers(2, 14, count // 2)]


if __name__ == "__main__":
    main()
