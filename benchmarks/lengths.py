"""What `group_by_length` saves: CPU time of an epoch of German to English and of spelling to sound, with it and without.

    python benchmarks/lengths.py --data FOLDER [--examples 6400]

`recipes.transformer` with its defaults, on the first pairs that translation.py and spelling.py train on. A row of the
result is the CPU time from the first step of an epoch to the last, and what it was of the time without.
Results: benchmarks/results/lengths.csv.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import spelling
import translation
from rows import RESULTS, append, facts

import recipes

PATH = RESULTS / "lengths.csv"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=6400)
    arguments = parser.parse_args()
    for name, read in (("de_en.tsv.gz", sentences), ("cmudict.tsv.gz", words)):
        sizes, pairs = read(arguments.data / name)
        pairs = {key: ids[: arguments.examples] for key, ids in pairs.items()}
        plain = None
        for grouped in (False, True):
            found = epoch_seconds(recipes.transformer(**sizes), pairs, grouped)
            plain = plain or found
            row = {"data": name, "examples": arguments.examples, "group_by_length": grouped}
            row |= {"cpu_seconds": f"{found:.1f}", "share": f"{found / plain:.2f}"}
            print(append(PATH, {**row, **facts()}), flush=True)


def epoch_seconds(model, pairs, grouped):
    """Return the CPU seconds between the ends of the first and the last step of an epoch."""
    ends = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.process_time()))
    recipes.fit(model, pairs, epochs=1, batch_size=128, group_by_length=grouped, callbacks=[clock], verbose=0)
    return ends[-1] - ends[0]


def sentences(path):
    train, _, _ = translation.load(path)
    size = translation.VOCABULARY
    tokenizer = recipes.data.Tokenizer.train([text for pair in train for text in pair], "bpe", vocabulary_size=size)
    pairs = {key: tokenizer.encode([pair[i] for pair in train]) for i, key in enumerate(("source", "target"))}
    return {"vocabulary_size": tokenizer.vocabulary_size}, pairs


def words(path):
    train, _, _, sounds = spelling.load(path)
    pairs = spelling.encode(train, sounds)
    return {"vocabulary_size": 1 + max(int(np.max(ids)) for ids in pairs.values())}, pairs


if __name__ == "__main__":
    main()
