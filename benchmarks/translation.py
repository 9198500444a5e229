"""German to English by encoder-decoders from scratch on 15,527 short sentence pairs: chrF and BLEU of 1,000 of them.

    python benchmarks/translation.py --data DATA/de_en.tsv.gz [--minutes 20] [--systems NAME ...] [--seeds 0]

A line of the data is a German sentence and its English translation. The split is fixed: of the sorted pairs, shuffled with
seed 0, 1,000 for the test, 1,000 to choose settings by, the rest for training, without those that share their German or
English with either. The subwords of both languages are one vocabulary of 4,000, bytes joined by their frequency in the
training pairs. Ours is `recipes.fit(model, pairs, epochs=E, group_by_length=True)`, E the largest number of epochs that a
few timed steps say fits into the minutes, but at most 60: the pairs are few, and more passes only learn them by heart.
`seq2seq` and `transformer` have more dropout than by default, for few pairs; `transformer_32` has what is default, but
batches of 32, for more steps in the time.
Decoding is a beam search with 4 beams. chrF and BLEU are sacrebleu's, with its signatures in the row; higher is better, and
100 is the most. `copy` puts the German out as it is.

Needs sacrebleu and tokenizers. Rows already in benchmarks/results/translation.csv are not run again. `--pairs N` trains on N
pairs, to try the script.
"""

import argparse
import gzip
import time
from pathlib import Path

import keras
import numpy as np
from budget import fit_within
from rows import RESULTS, append, done, facts, read
from spelling import write

import recipes

PATH = RESULTS / "translation.csv"
SYSTEMS = {  # builder and its arguments, those of `recipes.fit`
    "copy": None,
    "seq2seq": ("seq2seq", {"dropout": 0.3}, {}),  # from 12 thousand sentences
    "transformer": ("transformer", {"dropout": 0.3}, {}),
    "transformer_32": ("transformer", {}, {"batch_size": 32}),
}
HELD_OUT = 1000
VOCABULARY = 4000
BEAMS = 4
EPOCHS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pairs", type=int, help="number of training pairs, instead of all")
    arguments = parser.parse_args()
    train, validation, test = load(arguments.data)
    train = train[: arguments.pairs]
    for seed in arguments.seeds:
        for system in arguments.systems:
            key = {"data": arguments.data.name, "pairs": len(train), "minutes": f"{arguments.minutes:g}"}
            key |= {"system": system, "seed": seed, "group_by_length": True}
            if not done(PATH, key):
                append(PATH, {**key, **measure(system, seed, train, validation, test, 60 * arguments.minutes)})
    for row in read(PATH):
        print(
            f"{row['system']:12s} seed {row['seed']}, {row['pairs']} pairs, {row['minutes']} minutes: "
            f"chrF {row['chrf']}, BLEU {row['bleu']}"
        )


def measure(system, seed, train, validation, test, seconds):
    run = dict.fromkeys(("epochs", "examples", "seconds", "cpu_seconds", "parameters"), "")
    if SYSTEMS[system] is None:
        return {**evaluate(lambda texts: texts, validation, test), "decode_seconds": 0, **run, **facts()}
    family, given, settings = SYSTEMS[system]
    settings = {"group_by_length": True, **settings}
    tokenizer = recipes.data.Tokenizer.train([text for pair in train for text in pair], "bpe", vocabulary_size=VOCABULARY)
    source, target = (tokenizer.encode([pair[i] for pair in train]) for i in (0, 1))

    def build():
        keras.utils.set_random_seed(seed)
        return getattr(recipes, family)(
            vocabulary_size=tokenizer.vocabulary_size,
            padding_id=tokenizer.padding_id,
            start_id=tokenizer.start_id,
            end_id=tokenizer.end_id,
            **given,
        )

    model, run = fit_within(build, {"source": source, "target": target}, seconds, EPOCHS, **settings)

    def translate(texts):
        return tokenizer.decode(write(model, tokenizer.encode(texts), max_new_tokens=40, beams=BEAMS))

    start = time.perf_counter()
    found = evaluate(translate, validation, test)
    return {**found, "decode_seconds": round(time.perf_counter() - start, 1), **run, **facts()}


def evaluate(translate, validation, test):
    """Return the scores of the translations of both held-out parts, and print some of the first."""
    import sacrebleu

    found = {}
    for prefix, pairs in (("validation_", validation), ("", test)):
        texts, right = translate([pair[0] for pair in pairs]), [[pair[1] for pair in pairs]]
        for metric in (sacrebleu.CHRF(), sacrebleu.BLEU()):
            score = metric.corpus_score(texts, right)
            found[f"{prefix}{metric.__class__.__name__.lower()}"] = f"{score.score:.2f}"
            if not prefix:
                found[f"{metric.__class__.__name__.lower()}_signature"] = str(metric.get_signature())
        if prefix:
            for pair, text in list(zip(pairs, texts, strict=True))[:8]:
                print(" | ".join((*pair, text)))
    return found


def load(path):
    """Return training, validation and test pairs of texts."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = sorted({tuple(line.rstrip("\n").split("\t")) for line in file})
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    test, validation, train = rows[:HELD_OUT], rows[HELD_OUT : 2 * HELD_OUT], rows[2 * HELD_OUT :]
    seen = {text for pair in test for text in pair}
    validation = [pair for pair in validation if not seen & set(pair)]
    seen |= {text for pair in validation for text in pair}
    return [pair for pair in train if not seen & set(pair)], validation, test


if __name__ == "__main__":
    main()
