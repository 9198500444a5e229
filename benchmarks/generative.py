"""What generative models make of real pictures in a given time: Fréchet distance, precision, recall, and grids to look at.

    python benchmarks/generative.py --data FOLDER [--minutes 5] [--sets fashion_mnist emoji] [--systems NAME ...] [--seed 0]

The folder holds fashion_mnist.npz (60,000 grey pictures, 28 pixels) and emoji.npz (1,911 drawings, here 32 pixels). Ours is
`recipes.fit(model, pictures, epochs=E)` with the defaults of the builder, E the number of epochs that a few timed steps say
fits into the minutes. 2,000 samples are compared with as many real pictures: for Fashion-MNIST of the test part; for emoji
of the 1,911 themselves, which is all there is, so a model that learned them by heart would win. `real` is what the real
pictures of the training part reach.

The measures are those of `recipes.generative_measures` on the features of a small network that this script trains once to
tell the classes apart (recipes.resnet, kept in runs/): they compare systems of this table, not with the FID of papers. Rows
already in benchmarks/results/generative.csv are not run again. A grid of the first samples goes to docs/samples.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from budget import fit_within, kept
from rows import RESULTS, append, done, facts, read

import recipes
from recipes.callbacks import save_grid

PATH = RESULTS / "generative.csv"
GRIDS = Path(__file__).parents[1] / "docs" / "samples"
SYSTEMS = {  # ours: builder, its arguments
    "real": None,
    "vae": ("vae", {}),
    "vqvae": ("vqvae", {}),  # and its prior, in one fit
    "diffusion": ("diffusion", {"variant": "edm"}),
    "flow": ("diffusion", {"variant": "flow"}),
    "dcgan": ("gan", {"variant": "dcgan"}),
    "wgan_gp": ("gan", {"variant": "wgan_gp"}),
    "r3gan": ("gan", {"variant": "r3gan"}),
    "stylegan": ("stylegan", {}),
}
SAMPLES = 2000
MEASURES = ("frechet_distance", "precision", "recall", "density", "coverage")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["fashion_mnist"])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    arguments = parser.parse_args()
    for name in arguments.sets:
        common = {"data": name, "samples": arguments.samples, "seed": arguments.seed}
        keys = {system: {**common, "minutes": f"{arguments.minutes:g}", "system": system} for system in arguments.systems}
        keys = {system: key for system, key in keys.items() if not done(PATH, key)}
        if keys:
            train, labels, real = SETS[name](arguments.data)
            network = features(name, train, labels)
        for system, key in keys.items():
            row = {**key, **measure(system, train, real[: arguments.samples], network, arguments, name), **facts()}
            append(PATH, row)
            print({k: row[k] for k in ("data", "system", *MEASURES)}, flush=True)
    show([row for row in read(PATH) if row["data"] in arguments.sets])


def measure(system, train, real, network, arguments, name):
    """Train a system, draw samples, save a grid of them, and return the measures and facts of the run."""
    count = arguments.samples
    run = dict.fromkeys(("epochs", "examples", "seconds", "cpu_seconds", "parameters", "sample_ms"), "")
    if SYSTEMS[system] is None:
        samples = train[:count]
    else:
        builder, given = SYSTEMS[system]

        def build():
            keras.utils.set_random_seed(arguments.seed)
            return getattr(recipes, builder)(train.shape[1:], **given)

        model, run = fit_within(build, train, 60 * arguments.minutes)
        model.sample(1)
        model.sample(64)  # compiled
        start = time.perf_counter()
        samples = model.sample(count, seed=arguments.seed)
        run["sample_ms"] = f"{1000 * (time.perf_counter() - start) / count:.1f}"
    save_grid(samples[:40], GRIDS / f"{name}_{system}_{arguments.minutes:g}.png", columns=10, scale=2)
    found = recipes.generative_measures(real, samples, features=network)
    return {**{key: f"{found[key]:.4f}" for key in MEASURES}, **run}


def features(name, pictures, labels):
    """Return the network whose features are compared; it is trained once, with the defaults of `recipes.resnet`."""

    def train():
        keras.utils.set_random_seed(0)
        model = recipes.resnet(pictures.shape[1:], int(labels.max()) + 1)
        few = 20_000  # of Fashion-MNIST: .90 of the test pictures right after 4 epochs
        recipes.fit(model, (pictures[:few], labels[:few]), epochs=max(4, 20_000 // len(pictures)), verbose=2)
        return model, {}

    model, _ = kept(f"features_{name}", train)
    return recipes.features(model, "features")


def fashion_mnist(folder):
    """Return the training pictures in random order, their classes, and test pictures."""
    with np.load(folder / "fashion_mnist.npz", allow_pickle=False) as file:
        order = np.random.default_rng(0).permutation(len(file["x_train"]))
        return file["x_train"][order][..., None], file["y_train"][order].astype("int32"), file["x_test"][..., None]


def emoji(folder):
    """Return the drawings at half their size in random order, their categories, and the drawings again."""
    with np.load(folder / "emoji.npz", allow_pickle=False) as file:
        images, categories = file["images"], np.unique(file["categories"], return_inverse=True)[1]
    images = images.reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4)).round().astype("uint8")
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], categories[order].astype("int32"), images[order]


SETS = {"fashion_mnist": fashion_mnist, "emoji": emoji}


def show(rows):
    columns = {
        "frechet_distance": "Fréchet",
        "precision": "prec.",
        "recall": "recall",
        "density": "dens.",
        "coverage": "cover.",
    }
    print(f"\n{'data':14s} {'min':>4s} {'system':10s}", *(f"{title:>8s}" for title in columns.values()), f"{'ms/image':>9s}")
    for row in sorted(rows, key=lambda row: (row["data"], float(row["minutes"]), float(row["frechet_distance"]))):
        values = " ".join(f"{float(row[key]):8.3f}" for key in columns)
        print(f"{row['data']:14s} {row['minutes']:>4s} {row['system']:10s} {values} {row['sample_ms']:>9s}")


if __name__ == "__main__":
    main()
