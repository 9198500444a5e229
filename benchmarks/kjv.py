"""The King James Bible character by character: a GPT and an LSTM from scratch, beside a model that counts five characters.

    python benchmarks/kjv.py --data DATA/kjv.txt.gz [--minutes 20] [--systems NAME ...] [--seeds 0]

The last 5 % of the text are the test, the 5 % before them were there to choose settings by. `gpt` is `recipes.gpt()` and
`lstm_lm` is `recipes.lstm_lm()` with their defaults and `recipes.fit(model, ids, epochs=E)` on pieces of 128 characters;
E is the largest number of epochs that a few timed steps say fits into the minutes. A network reads the test in windows of
128 that overlap by half, and each character counts once, with at least 64 known before it (fewer at the very start).
`5-gram` interpolates counts of up to five characters as Witten and Bell do (1991, method C); so does `8-gram`. Bits per
character, lower is better.

Rows already in benchmarks/results/kjv.csv are not run again.
"""

import argparse
import gzip
import time
from pathlib import Path

import keras
import numpy as np
from budget import fit_within
from rows import RESULTS, append, done, facts, read

import recipes

PATH = RESULTS / "kjv.csv"
LENGTH = 128
SYSTEMS = ("5-gram", "8-gram", "gpt", "lstm_lm")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    train, validation, test, characters = load(arguments.data)
    for seed in arguments.seeds:
        for system in arguments.systems:
            key = {"data": arguments.data.name, "minutes": f"{arguments.minutes:g}", "system": system, "seed": seed}
            if done(PATH, key):
                continue
            if system.endswith("gram"):
                start = time.perf_counter()
                order = int(system[0])
                bits = {name: count_bits(train, part, order, len(characters)) for name, part in parts(validation, test)}
                run = dict.fromkeys(("epochs", "examples", "cpu_seconds", "parameters"), "")
                run |= {"seconds": round(time.perf_counter() - start)}
            else:
                model, run = learn(system, seed, train, len(characters), 60 * arguments.minutes)
                bits = {name: network_bits(model, part) for name, part in parts(validation, test)}
                write(model, test, characters)
            append(PATH, {**key, **{name: f"{value:.4f}" for name, value in bits.items()}, **run, **facts()})
    for row in read(PATH):
        print(f"{row['system']:8s} seed {row['seed']}, {row['minutes']} minutes: {row['bits']} bits a character")


def parts(validation, test):
    return (("validation_bits", validation), ("bits", test))


def load(path):
    """Return ids of training, validation and test characters, 1 and up, and the characters in the order of their ids."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    characters = sorted(set(text))
    numbers = {character: i for i, character in enumerate(characters, start=1)}
    ids = np.array([numbers[character] for character in text], "int32")
    return *np.split(ids, [int(0.9 * len(ids)), int(0.95 * len(ids))]), characters


# ------------------------------------------------------------------------------------------------------- networks


def learn(system, seed, train, characters, seconds):
    pieces = train[: len(train) // LENGTH * LENGTH].reshape(-1, LENGTH)

    def build():
        keras.utils.set_random_seed(seed)
        return getattr(recipes, system)(
            vocabulary_size=characters + 1, **({"max_length": LENGTH} if system == "gpt" else {})
        )

    return fit_within(build, np.random.default_rng(0).permutation(pieces), seconds)


def network_bits(model, ids):
    """Bits of each character but the first, in windows that overlap by half."""
    half, total, count = LENGTH // 2, 0.0, 0
    starts = np.arange(0, len(ids) - LENGTH + 1, half)
    for first in range(0, len(starts), 64):
        windows = np.stack([ids[s : s + LENGTH] for s in starts[first : first + 64]])
        logits = model.predict_on_batch(windows).astype("float64")[:, :-1]
        chosen = np.take_along_axis(logits, windows[:, 1:, None], axis=-1)[..., 0]
        largest = logits.max(axis=-1)
        nats = largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1)) - chosen
        counts = np.ones_like(nats)
        counts[int(first == 0) :, : half - 1] = 0  # the window before has counted them
        total, count = total + (nats * counts).sum(), count + counts.sum()
    return float(total / count / np.log(2))


def write(model, test, characters):
    prompt = test[:64]
    (ids,) = recipes.generate(model, [prompt.tolist()], max_new_tokens=64, temperature=0.8)
    texts = ["".join(characters[i - 1] if i else "?" for i in part) for part in (prompt, ids)]
    print(f"{texts[0]!r} -> {texts[1]!r}", flush=True)


# --------------------------------------------------------------------------------------------------------- counts


def count_bits(train, test, order, characters):
    """Bits of each character under counts of `order` characters, interpolated with those of fewer down to none."""
    probability = np.full(len(test), 1 / characters)
    for n in range(1, order + 1):
        seen, times = np.unique(codes(train, n), return_counts=True)
        contexts, first = np.unique(seen // 64, return_index=True)  # sorted codes: those of one context stand together
        followers = np.diff(np.append(first, len(seen)))
        totals = np.add.reduceat(times, first)
        wanted = codes(test, n)
        count = look_up(seen, times, wanted)
        total, different = (look_up(contexts, values, wanted // 64) for values in (totals, followers))
        known = total > 0
        better = (count + different * probability[n - 1 :]) / np.where(known, total + different, 1)
        probability[n - 1 :] = np.where(known, better, probability[n - 1 :])
    return float(-np.log2(probability[1:]).mean())


def codes(ids, n):
    """One number for each run of `n` characters; ids are below 64."""
    found = np.zeros(len(ids) - n + 1, "int64")
    for i in range(n):
        found = 64 * found + ids[i : len(ids) - n + 1 + i]
    return found


def look_up(keys, values, wanted):
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


if __name__ == "__main__":
    main()
