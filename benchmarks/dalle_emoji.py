"""Draw emoji by their names with `recipes.dalle`: is the picture nearer to the one asked for than to the others?

    python benchmarks/dalle_emoji.py --data ../shared/data/emoji.npz --minutes 20

The model learns names and pictures of 32 pixels a side for as many minutes; the epochs that fit are told by a few timed
steps of each stage. Then every name is drawn once, and the distances of each drawing to all pictures are compared, root mean
squares over pixels. `nearer` is the share of names whose drawing is nearer to its own picture than to 90 % of the others;
`rank` the mean share of the others that are nearer than its own, 0 at best and 0.5 by chance. There is a row for the names
it has learned, one for every twentieth name, which was held out, and one for pictures that were only turned into codes and
back, the best that drawing could reach. `--grid` writes a picture: pairs, on the left what was asked for. Rows already in
benchmarks/results/dalle_emoji.csv are not run again.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from budget import kept
from rows import RESULTS, append, done, facts, read

import recipes

FILE = RESULTS / "dalle_emoji.csv"
SIZE = 32
PROBE = 16  # timed steps of each stage


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="emoji.npz")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training")
    parser.add_argument("--arguments", default="", help="arguments of recipes.dalle, such as codes=512,width=256")
    parser.add_argument("--precision", help="of recipes.fit, such as auto or mixed_bfloat16")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--candidates", type=int, default=1, help="ranked by the likelihood")
    parser.add_argument("--pictures", type=int, default=None, help="only as many of the data, to try the script")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--grid", help="PNG file to write")
    arguments = parser.parse_args()
    names, pictures = load(arguments.data, arguments.pictures)
    for seed in range(arguments.seeds):
        chosen = ("minutes", "arguments", "precision", "temperature", "guidance", "candidates")
        key = {name: getattr(arguments, name) or "" for name in chosen}
        key |= {"pictures": len(names), "seed": seed}
        if not done(FILE, {**key, "part": "learned"}):
            run(names, pictures, key, arguments.grid)
    for row in (row for row in read(FILE) if row["pictures"] == str(len(names))):
        print(*(row[name] for name in ("minutes", "arguments", "precision", "seed", "part", "nearer", "rank", "epochs")))


def run(names, pictures, key, grid):
    """Train one model and append what it draws, a row for each part."""
    held = np.arange(len(names)) % 20 == 0
    tokenizer = recipes.data.Tokenizer.train(names[~held].tolist(), vocabulary_size=2000)
    ids = tokenizer.encode(names.tolist())
    chosen = dict(pair.split("=") for pair in key["arguments"].split(",") if pair)
    chosen = {name: number(value) for name, value in chosen.items()}
    sizes = {"vocabulary_size": tokenizer.vocabulary_size, "max_length": ids.shape[1], **chosen}

    def build(**changes):
        keras.utils.set_random_seed(key["seed"])
        return recipes.dalle((SIZE, SIZE, 3), **{**sizes, **changes})

    def train():
        data = ids[~held], pictures[~held]
        precision = key["precision"] or None
        epochs = affordable(build, data, 60 * key["minutes"], precision)
        model, start = build(), time.perf_counter()
        recipes.fit(model, data, epochs=epochs, seed=key["seed"], precision=precision, verbose=2)
        return model, {"epochs": epochs, "seconds": round(time.perf_counter() - start)}

    name = "_".join(str(key[part]) for part in ("arguments", "precision", "pictures", "minutes", "seed"))
    model, spent = kept(f"dalle_emoji_{name}", train)
    settings = {name: key[name] for name in ("temperature", "guidance", "candidates")}
    settings |= {"rank": "likelihood"} if key["candidates"] > 1 else {}
    drawn = recipes.generate(model, ids, seed=key["seed"], **settings)
    rebuilt = model.decode(model.encode(pictures))
    parts = {"learned": (drawn, ~held), "held out": (drawn, held), "codes alone": (rebuilt, ~held)}
    if grid:
        write_grid(grid, pictures, drawn, held)
    about = facts()
    for part, (images, rows) in reversed(parts.items()):  # the row that is looked for comes last
        shares = nearer_others(images[rows], pictures[rows], pictures)
        measured = {"nearer": f"{(shares < 0.1).mean():.3f}", "rank": f"{shares.mean():.4f}"}
        append(FILE, {**key, "part": part, **measured, "names": int(rows.sum()), **spent, **about})


def load(path, most):
    """Return names, each once, and their pictures, halved: uint8 `(names, 32, 32, 3)`, in random order."""
    with np.load(path, allow_pickle=False) as file:
        names, first = np.unique(file["names"], return_index=True)
        pictures = file["images"][first]
    order = np.random.default_rng(0).permutation(len(names))[:most]
    small = pictures[order].reshape(len(order), SIZE, 2, SIZE, 2, 3).mean(axis=(2, 4))
    return names[order], np.round(small).astype("uint8")


def affordable(build, data, seconds, precision):
    """Return the number of epochs that fit in a time, from timed steps of both stages."""
    model, clock = build(first_stage=0.5), Clock()
    size = model.recipe["training"]["batch_size"]
    rows = np.arange(2 * PROBE * size) % len(data[0])
    few = tuple(part[rows] for part in data)
    recipes.fit(model, few, epochs=1, batch_size=size, precision=precision, verbose=0, callbacks=[clock])
    steps = np.diff(clock.times)
    first, second = np.median(steps[1 : PROBE - 1]), np.median(steps[PROBE:])
    share = build().settings["first_stage"]
    step = share * first + (1 - share) * second
    epochs = max(2, round(seconds / (step * -(-len(data[0]) // size))))
    print(f"{1000 * first:.0f} and {1000 * second:.0f} ms a step of {size} in the two stages: {epochs} epochs", flush=True)
    return epochs


class Clock(keras.callbacks.Callback):
    """Notes the time after each step."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())


def nearer_others(images, own, others):
    """Return for each image the share of `others` that are nearer to it than its own."""
    shares = []
    for image, target in zip(images.astype("float32"), own.astype("float32"), strict=True):
        distances = np.square(others - image).mean(axis=(1, 2, 3))
        shares.append((distances < np.square(target - image).mean()).sum() / (len(others) - 1))
    return np.array(shares)


def write_grid(path, pictures, drawn, held, count=48):
    """Write pairs of a picture and its drawing, 8 pairs a row; the last two rows are held out."""
    from PIL import Image

    rows = np.concatenate([np.flatnonzero(~held)[: count - 16], np.flatnonzero(held)[:16]])
    pairs = np.concatenate([pictures[rows], np.round(drawn[rows])], axis=2)  # (pairs, 32, 64, 3)
    pairs = np.pad(pairs, ((0, 0), (0, 2), (0, 4), (0, 0)), constant_values=255)
    lines = [np.concatenate(list(pairs[i : i + 8]), axis=1) for i in range(0, len(pairs) // 8 * 8, 8)]
    Image.fromarray(np.concatenate(lines).astype("uint8")).resize((8 * 68 * 2, len(lines) * 34 * 2), 0).save(path)


def number(value):
    """Return a number for a string that is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


if __name__ == "__main__":
    main()
