"""`recipes.mlp` with its defaults beside scikit-learn's HistGradientBoosting and a linear model, on tables.

    python benchmarks/tabular.py                       # breast_cancer, diabetes: 5 seeds, about 2 minutes on 2 cores
    python benchmarks/tabular.py --data FOLDER         # also letter, magic, concrete of a folder of CSV files

Each seed is a split of its own: 20 % for the test, 10 % for validation, which only the network uses (nothing: no early
stopping, so the trees get it for training too). Rows already in benchmarks/results/tabular.csv are not run again.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, read
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import recipes

PATH = RESULTS / "tabular.csv"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds letter.csv.gz, magic.csv.gz, concrete.csv.gz")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    names = ["breast_cancer", "diabetes"]
    if arguments.data:
        names += [os.path.join(arguments.data, f"{name}.csv.gz") for name in ("concrete", "magic", "letter")]
    rows = read(PATH)
    done = {(row["data"], row["system"], int(row["seed"])) for row in rows}
    for seed in range(arguments.seeds):
        for name in names:
            short = os.path.basename(name).split(".")[0]
            for system in ("mlp", "trees", "linear"):
                if (short, system, seed) not in done:
                    metric, value, seconds = measure(name, system, seed)
                    row = {"data": short, "metric": metric, "system": system, "seed": seed, "value": value}
                    rows.append(append(PATH, {**row, "seconds": round(seconds, 2)}))
    show(rows)


def measure(name, system, seed):
    """Return the metric's name, its value on the test part and the seconds of training."""
    target = {"concrete": "compressive_strength"}.get(os.path.basename(name).split(".")[0])
    data = recipes.data.load(name, target=target, validation=0, test=0.2, seed=seed)
    classify = data.info.task == "classify"
    keras.utils.set_random_seed(seed)
    (x, y), (x_test, y_test) = data.train, data.test
    start = time.perf_counter()
    if system == "mlp":
        model = recipes.mlp(data.info.input_shape, data.info.num_classes, task=data.info.task)
        recipes.fit(model, (x, y), verbose=0, seed=seed)
        seconds = time.perf_counter() - start
        outputs = recipes.predict(model, x_test)
        predicted = outputs.labels if classify else outputs.values[:, 0]
    else:
        models = {
            ("trees", True): HistGradientBoostingClassifier(random_state=seed),
            ("trees", False): HistGradientBoostingRegressor(random_state=seed),
            ("linear", True): make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
            ("linear", False): make_pipeline(StandardScaler(), Ridge()),
        }
        model = models[system, classify].fit(x, y)
        seconds = time.perf_counter() - start
        predicted = model.predict(x_test)
    metric = "accuracy" if classify else "mae"
    value = accuracy_score(y_test, predicted) if classify else mean_absolute_error(y_test, np.asarray(predicted))
    return metric, float(value), seconds


def show(rows):
    print(f"{'data':14s} {'metric':9s} {'system':7s} {'mean':>8s} {'std':>7s} {'n':>2s} {'seconds':>8s}")
    for key in dict.fromkeys((r["data"], r["metric"], r["system"]) for r in rows):
        group = [r for r in rows if (r["data"], r["metric"], r["system"]) == key]
        values = [float(r["value"]) for r in group]
        seconds = statistics.median(float(r["seconds"]) for r in group)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        mean = statistics.mean(values)
        print(f"{key[0]:14s} {key[1]:9s} {key[2]:7s} {mean:8.4f} {spread:7.4f} {len(values):2d} {seconds:8.1f}")


if __name__ == "__main__":
    main()
