"""Eight Gaussians on a circle: which of them each generative family finds, and how much of what it makes lies in one.

    python benchmarks/mixture.py [--systems NAME ...] [--seeds 3] [--epochs N]

The centres lie 2 from the origin, each Gaussian has the standard deviation 0.1, and 8,192 points are to learn from. Ours is
`recipes.fit(model, x, epochs=E)` with the defaults of the builder but what `SYSTEMS` says. Of 2,000 samples those count that
lie within 3 standard deviations of a centre, 98.9 % if they are right; a centre is found if it has a quarter of its share.
Rows already in benchmarks/results/mixture.csv are not run again.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, done, facts, read

import recipes

PATH = RESULTS / "mixture.csv"
DEVIATION = 0.1
CENTRES = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
POINTS, SAMPLES = 8192, 2000
# name: builder, its arguments, epochs of 32 steps
SYSTEMS = {
    "vae": ("vae", {}, 100),
    "vqvae": ("vqvae", {}, 100),
    "ddpm": ("diffusion", {"variant": "ddpm"}, 200),  # many of its steps see noise alone
    "v": ("diffusion", {"variant": "v"}, 100),
    "edm": ("diffusion", {"variant": "edm"}, 100),
    "flow": ("diffusion", {"variant": "flow"}, 100),
    "dcgan": ("gan", {"variant": "dcgan"}, 300),
    "wgan_gp": ("gan", {"variant": "wgan_gp"}, 600),  # one step of the generator in five
    "r3gan": ("gan", {"variant": "r3gan"}, 300),
    "stylegan": ("stylegan", {}, 300),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of those of SYSTEMS")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        for system in arguments.systems:
            epochs = arguments.epochs or SYSTEMS[system][2]
            key = {"system": system, "epochs": epochs, "seed": seed}
            if not done(PATH, key):
                print(append(PATH, {**key, **measure(system, epochs, seed), **facts()}), flush=True)
    show(read(PATH))


def measure(system, epochs, seed):
    """Train a system and return what of its samples is right."""
    builder, given, _ = SYSTEMS[system]
    keras.utils.set_random_seed(seed)
    model = getattr(recipes, builder)((2,), **given)
    start, cpu = time.perf_counter(), time.process_time()
    recipes.fit(model, points(seed), epochs=epochs, batch_size=256, seed=seed, verbose=0)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    modes, within = score(model.sample(SAMPLES, seed=seed, batch_size=SAMPLES))
    return {
        "modes": modes,
        "within": f"{within:.4f}",
        "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{cpu:.1f}",
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "arguments": " ".join(f"{name}={value}" for name, value in given.items()),
    }


def points(seed):
    """Return points of the mixture, float32 `(8192, 2)`."""
    random = np.random.default_rng(seed)
    centres = CENTRES[random.integers(0, len(CENTRES), POINTS)]
    return (centres + DEVIATION * random.normal(size=centres.shape)).astype("float32")


def score(samples):
    """Return how many centres have a quarter of their share of the samples, and the share that lies near any."""
    distances = np.linalg.norm(samples[:, None] - CENTRES, axis=-1)
    near = distances.min(axis=1) < 3 * DEVIATION
    found = np.bincount(distances.argmin(axis=1)[near], minlength=len(CENTRES))
    return int((found >= len(samples) / len(CENTRES) / 4).sum()), float(near.mean())


def show(rows):
    print(f"\n{'system':10s} {'epochs':>6s} {'modes':>5s} {'within':>7s} {'least':>7s} {'n':>2s} {'seconds':>8s}")
    for key in dict.fromkeys((row["system"], row["epochs"]) for row in rows):
        group = [row for row in rows if (row["system"], row["epochs"]) == key]
        within = [float(row["within"]) for row in group]
        print(
            f"{key[0]:10s} {key[1]:>6s} {min(int(row['modes']) for row in group):5d} {statistics.mean(within):7.1%} "
            f"{min(within):7.1%} {len(group):2d} {statistics.median(float(row['seconds']) for row in group):8.1f}"
        )


if __name__ == "__main__":
    main()
