"""Data: load tables and images from files, split them, and serve them in batches whose order is known in advance.

python examples/data.py                             # scikit-learn's wines and digits, written to files first
python examples/data.py prices.csv --target price   # your own table
python examples/data.py photos --image-size 64      # your own folder with a folder of images for every class
"""

import argparse
import csv
import pathlib
import tempfile

import numpy as np
from PIL import Image
from sklearn.datasets import load_wine

import recipes
from recipes.data import augment


def describe(data):
    x, y = data.train
    shapes = {name: part.shape for name, part in x.items()} if isinstance(x, dict) else x.shape
    held = [None if part is None else len(part[1]) for part in (data.validation, data.test)]
    print(f"{pathlib.Path(data.info.source).name}: {data.info.task}, train {shapes}, validation and test {held}")
    print(f"  classes {data.info.class_names}, categories {data.info.category_values}, filled {data.info.filled}")


parser = argparse.ArgumentParser()
parser.add_argument("path", nargs="?", help="a table, an .npz, a folder of class folders or tfds:NAME")
parser.add_argument("--target", help="the column of a table to predict")
parser.add_argument("--image-size", type=int, help="side to resize images to")
arguments = parser.parse_args()
if arguments.path:
    describe(recipes.data.load(arguments.path, target=arguments.target, image_size=arguments.image_size))
    raise SystemExit

with tempfile.TemporaryDirectory() as folder:
    wine = load_wine()
    with open(f"{folder}/wine.csv", "w", newline="") as file:  # one column of texts, gaps in both
        table = csv.writer(file)
        table.writerow(["alcohol", "taste", "target"])
        for i, (x, y) in enumerate(zip(wine.data, wine.target, strict=True)):
            taste = "strong" if x[0] > 13 else "light"
            table.writerow(["" if i % 10 == 5 else x[0], "" if i % 10 == 0 else taste, wine.target_names[y]])
    describe(recipes.data.load(f"{folder}/wine.csv"))

    digits = recipes.data.load("digits", validation=0, test=0)
    for i, (image, label) in enumerate(zip(*digits.train, strict=True)):
        path = pathlib.Path(folder, "digits", f"digit {label}", f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    data = recipes.data.load(f"{folder}/digits", image_size=(16, 16))
    describe(data)

shift = augment.automatic("shift", (16, 16, 3))
batches, again = (recipes.data.Batches(*data.train, batch_size=128, seed=0, augment=shift) for _ in range(2))
print("every epoch its own order:", batches.order(0)[:5], batches.order(1)[:5])
print("the same again:", all(np.array_equal(batches.batch(1, i)[0], again.batch(1, i)[0]) for i in range(len(batches))))
