"""English spelling to sound by encoder-decoders: the share of 2,000 test words said wrong after a given time of training.

    python benchmarks/spelling.py --data DATA/cmudict.tsv.gz [--minutes 20] [--systems NAME ...] [--seeds 0]

A line of the data is a word and its sounds in ARPAbet: `abbey	AE1 B IY0`. The split is fixed: of the sorted words, shuffled
with seed 0, 2,000 for the test, 2,000 to choose settings by, the rest for training. A word is wrong unless every sound is
right, the stress of its vowels included. Training words of more than 14 letters or sounds, 1 in 150, are left out, since all
rows would be as long as the longest; none of the test words are. Ours is `recipes.fit(model, pairs, epochs=E,
group_by_length=True)` with the defaults of the builder, E the largest number of epochs that a few timed steps say fits into
the minutes. Decoding is a beam search with 4 beams. Nobody sees the test words before the end.

Rows already in benchmarks/results/spelling.csv are not run again. `--words N` trains on N words, to try the script.
"""

import argparse
import gzip
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from budget import fit_within
from rows import RESULTS, append, done, facts, read

import recipes

PATH = RESULTS / "spelling.csv"
SYSTEMS = {
    "seq2seq": ("seq2seq", {}),
    "transformer": ("transformer", {}),
}
START, END, FIRST = 1, 2, 3  # among the sounds; 0 is padding
LONGEST = 14  # letters and sounds of a training word
HELD_OUT = 2000
BEAMS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--words", type=int, help="number of training words, instead of all")
    arguments = parser.parse_args()
    train, validation, test, sounds = load(arguments.data)
    train = train[: arguments.words]
    for seed in arguments.seeds:
        for system in arguments.systems:
            key = {"data": arguments.data.name, "words": len(train), "minutes": f"{arguments.minutes:g}"}
            key |= {"system": system, "seed": seed, "group_by_length": True}
            if not done(PATH, key):
                found = measure(system, seed, train, validation, test, sounds, 60 * arguments.minutes)
                append(PATH, {**key, **found})
    for row in read(PATH):
        print(
            f"{row['system']:12s} seed {row['seed']}, {row['words']} words, {row['minutes']} minutes: "
            f"{float(row['word_error']):.1%} of the test words wrong, {float(row['sound_error']):.1%} of the sounds"
        )


def measure(system, seed, train, validation, test, sounds, seconds):
    family, given = SYSTEMS[system]
    sizes = {"vocabulary_size": 27, "target_vocabulary_size": FIRST + len(sounds), "start_id": START, "end_id": END}
    pairs = encode(train, sounds)

    def build():
        keras.utils.set_random_seed(seed)
        return getattr(recipes, family)(**sizes, **given)

    model, run = fit_within(build, pairs, seconds, group_by_length=True)
    found = {}
    for name, part in {"validation_word_error": validation, "word_error": test}.items():
        start = time.perf_counter()
        source = [[ord(letter) - 96 for letter in word] for word, _ in part]
        spoken = write(model, source, max_new_tokens=30, beams=BEAMS)
        elapsed = time.perf_counter() - start
        right = [[sounds.index(sound) + FIRST for sound in spoken_so] for _, spoken_so in part]
        found[name] = f"{np.mean([a != b for a, b in zip(spoken, right, strict=True)]):.4f}"
    errors = sum(distance(a, b) for a, b in zip(spoken, right, strict=True))
    return {
        **found,
        "sound_error": f"{errors / sum(map(len, right)):.4f}",
        "decode_seconds": round(elapsed, 1),
        **run,
        **facts(),
    }


def load(path):
    """Return training, validation and test words as lists of `(word, list of sounds)`, and all sounds in order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = sorted(line.rstrip("\n").split("\t") for line in file)
    rows = [(word, sounds.split()) for word, sounds in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    rows = [rows[i] for i in order]
    test, validation, train = rows[:HELD_OUT], rows[HELD_OUT : 2 * HELD_OUT], rows[2 * HELD_OUT :]
    train = [(word, sounds) for word, sounds in train if max(len(word), len(sounds)) <= LONGEST]
    return train, validation, test, sorted({sound for _, sounds in rows for sound in sounds})


def encode(rows, sounds):
    """Return `{"source", "target"}` ids."""
    numbers = {sound: i for i, sound in enumerate(sounds, start=FIRST)}
    return {
        "source": padded([[ord(letter) - 96 for letter in word] for word, _ in rows]),
        "target": padded([[START, *(numbers[sound] for sound in spoken), END] for _, spoken in rows]),
    }


def padded(rows):
    found = np.zeros((len(rows), max(map(len, rows))), "int32")
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return found


def distance(a, b):
    """Return the least number of sounds to put in, leave out or replace to make `b` of `a`."""
    costs = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, costs[0] = costs[0], i
        for j, y in enumerate(b, start=1):
            before, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, before + (x != y))
    return costs[-1]


# what benchmarks/translation.py uses too


def write(model, source, rows=200, **arguments):
    """Return what `recipes.generate` does, some rows at a time: the states of all beams together would take gigabytes."""
    parts = [source[i : i + rows] for i in range(0, len(source), rows)]
    return [text for part in parts for text in recipes.generate(model, part, **arguments)]


if __name__ == "__main__":
    main()
