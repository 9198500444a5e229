"""Tell nine speakers by two vowels with `recipes.lstm`: 270 utterances to learn from, 370 to test on.

    python benchmarks/vowels.py --data ../shared/data/japanese_vowels.npz

An utterance has 12 channels and 7 to 29 steps. The network is trained as the builder says, on all 270. With `--choose` the
test utterances are not looked at: a fifth of the 270 is held out, another for each seed, and that is what settings were
chosen by. Beside it a 1-nearest-neighbour of means and standard deviations of the channels and a logistic regression on
these. Rows already in benchmarks/results/vowels.csv are not run again.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, facts, read
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import recipes

PATH = RESULTS / "vowels.csv"
KEY = ["part", "arguments", "epochs", "system", "seed"]
SYSTEMS = ("lstm", "logistic", "neighbour")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="japanese_vowels.npz")
    parser.add_argument("--choose", action="store_true", help="hold out a fifth of the training part instead")
    parser.add_argument("--arguments", default="", help="arguments of recipes.lstm, such as pool=max,units=64")
    parser.add_argument("--epochs", type=int, default=None, help="as the builder says without it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    arguments = parser.parse_args()
    with np.load(arguments.data, allow_pickle=False) as file:
        (x, labels), (x_test, test_labels) = ((file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test"))
    names, y = np.unique(labels, return_inverse=True)
    train, test = (x, y), (x_test, np.searchsorted(names, test_labels))
    part = "validation" if arguments.choose else "test"
    rows = read(PATH)
    done = {tuple(row[key] for key in KEY) for row in rows}
    for system in arguments.systems:
        for seed in range(arguments.seeds if system == "lstm" or arguments.choose else 1):
            row = {"part": part, "arguments": "", "epochs": "", "system": system, "seed": str(seed)}
            if system == "lstm":
                row |= {"arguments": arguments.arguments, "epochs": str(arguments.epochs or "default")}
            if tuple(row[key] for key in KEY) not in done:
                start = time.perf_counter()
                kept, held = recipes.data.split(*train, 0.2, seed=seed) if arguments.choose else (train, test)
                accuracy = measure(system, seed, kept, held, arguments)
                row |= {"accuracy": f"{accuracy:.4f}", "seconds": f"{time.perf_counter() - start:.1f}"}
                rows.append(append(PATH, {**row, **facts()}))
                print(f"{system:10s} seed {seed}: {accuracy:.4f}", flush=True)
    show([row for row in rows if row["part"] == part])


def measure(system, seed, train, test, arguments):
    """Train a system and return its accuracy on the test part."""
    if system != "lstm":
        model = LogisticRegression(max_iter=2000) if system == "logistic" else KNeighborsClassifier(1)
        model = make_pipeline(StandardScaler(), model).fit(summary(train[0]), train[1])
        return model.score(summary(test[0]), test[1])
    keras.utils.set_random_seed(seed)
    chosen = dict(pair.split("=") for pair in arguments.arguments.split(",") if pair)
    chosen = {key: float(v) if "." in v else int(v) if v.isdecimal() else v for key, v in chosen.items()}
    model = recipes.lstm(train[0].shape[1:], 9, **chosen)
    recipes.fit(model, train, epochs=arguments.epochs, seed=seed, verbose=0)
    return recipes.evaluate(model, test)["accuracy"]


def summary(x):
    """Mean and standard deviation of each channel over the real steps: `(examples, 24)`."""
    real = (x != 0).any(axis=-1)
    steps = [row[mask] for row, mask in zip(x, real, strict=True)]
    return np.stack([np.concatenate([row.mean(axis=0), row.std(axis=0)]) for row in steps])


def show(rows):
    print(f"\n{'system':10s} {'arguments':30s} {'epochs':>8s} {'accuracy':>8s} {'std':>7s} {'n':>2s} {'seconds':>8s}")
    for key in dict.fromkeys((row["system"], row["arguments"], row["epochs"]) for row in rows):
        group = [row for row in rows if (row["system"], row["arguments"], row["epochs"]) == key]
        values = [float(row["accuracy"]) for row in group]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(float(row["seconds"]) for row in group)
        print(
            f"{key[0]:10s} {key[1]:30s} {key[2]:>8s} {statistics.mean(values):8.4f} {spread:7.4f} {len(values):2d} "
            f"{seconds:8.1f}"
        )
    print(f"\n{rows[-1]['made_with']}\n{rows[-1]['command']}")


if __name__ == "__main__":
    main()
