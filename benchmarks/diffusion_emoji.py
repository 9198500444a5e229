"""Draw emoji by their names with `recipes.diffusion`: is the picture nearer to the one asked for than to the others?

    python benchmarks/diffusion_emoji.py --data ../shared/data/emoji.npz [--minutes 20] [--guidance 2]

A name is a class of its own, so the model cannot draw what it has not seen; `benchmarks/dalle_emoji.py`, which reads the
names, says how `nearer` and `rank` are measured. With `--pictures N` only N names are learned, which takes less time. A grid
of the first pairs, on the left what was asked for, goes to docs/samples. Rows already in
benchmarks/results/diffusion_emoji.csv are not run again.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from budget import fit_within, kept
from dalle_emoji import load, nearer_others
from rows import RESULTS, append, done, facts, read

import recipes
from recipes.callbacks import save_grid

PATH = RESULTS / "diffusion_emoji.csv"
GRIDS = Path(__file__).parents[1] / "docs" / "samples"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="emoji.npz")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--variants", nargs="+", default=["edm"], help="of recipes.diffusion")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--pictures", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names, pictures = load(arguments.data, arguments.pictures)
    labels = np.arange(len(names), dtype="int32")
    for variant in arguments.variants:
        key = {"pictures": len(names), "minutes": f"{arguments.minutes:g}", "variant": variant}
        key |= {"guidance": arguments.guidance, "seed": arguments.seed}
        if done(PATH, key):
            continue

        def build(variant=variant):
            keras.utils.set_random_seed(arguments.seed)
            return recipes.diffusion(pictures.shape[1:], len(names), variant=variant)

        name = f"diffusion_emoji_{variant}_{len(names)}_{arguments.minutes:g}_{arguments.seed}"
        model, run = kept(name, lambda build=build: fit_within(build, (pictures, labels), 60 * arguments.minutes))
        drawn = model.sample(len(names), labels=labels, seed=arguments.seed, guidance=arguments.guidance)
        pairs = np.concatenate([pictures[:40], drawn[:40]], axis=2)  # (pairs, 32, 64, 3)
        save_grid(pairs, GRIDS / f"emoji_names_{variant}_{len(names)}_{arguments.minutes:g}.png", columns=5, scale=2)
        shares = nearer_others(drawn, pictures, pictures)
        measured = {"nearer": f"{(shares < 0.1).mean():.3f}", "rank": f"{shares.mean():.4f}"}
        append(PATH, {**key, **measured, **run, **facts()})
    for row in read(PATH):
        print(*(row[name] for name in ("pictures", "minutes", "variant", "guidance", "seed", "nearer", "rank", "epochs")))


if __name__ == "__main__":
    main()
