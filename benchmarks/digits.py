"""`recipes.resnet` with nothing but its defaults on scikit-learn's handwritten digits: test accuracy, mean of 3 seeds.

    python benchmarks/digits.py         # about two minutes on 2 cores

Each seed is a split of its own (20 % for the test, 80 % to train on, stratified) and an initialisation of its own. Rows
already in benchmarks/results/digits.csv are not run again.
"""

import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from rows import RESULTS, append, read

import recipes

PATH = RESULTS / "digits.csv"


def main(seeds=(0, 1, 2)):
    rows = read(PATH)
    for seed in seeds:
        if seed not in {int(row["seed"]) for row in rows}:
            rows.append(append(PATH, measure(seed)))
    accuracies = [float(row["accuracy"]) for row in rows]
    for row in rows:
        print(f"seed {row['seed']}: {float(row['accuracy']):.4f} in {float(row['seconds']):.0f} s ({row['versions']})")
    print(f"mean of {len(rows)}: {statistics.mean(accuracies):.4f}")


def measure(seed):
    data = recipes.data.load("digits", validation=0, test=0.2, seed=seed)
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    model = recipes.resnet(data.info.input_shape, data.info.num_classes)
    recipes.fit(model, data.train, seed=seed, verbose=0)
    seconds = time.perf_counter() - start
    accuracy = recipes.evaluate(model, data)["accuracy"]
    versions = f"keras {keras.__version__} on {keras.backend.backend()}, Python {platform.python_version()}"
    return {"seed": seed, "accuracy": accuracy, "seconds": round(seconds, 1), "versions": versions}


if __name__ == "__main__":
    main()
