"""What `recipes.fit` in a directory costs beside bare `model.fit`, and how long a checkpoint of 100 MB stops the training.

    python benchmarks/fit_cost.py --pairs 5

An epoch of 1,000 steps of the compact ResNet on 8x8 digits, batches of 32: `model.fit` on the arrays with the same schedule
and no shuffling pipeline of ours, and `recipes.fit` with checks, order, checkpoints, signals and the watch over what is not
finite. The two take turns; the row holds the medians of both and of their ratios, of the time on the clock and of the time
that the processor spent, which other programs disturb less. A second row times the writing of checkpoints of 100 MB: an
MLP of 8.4 million weights with two moments each. Rows are appended to benchmarks/results/fit_cost.csv.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, facts

import recipes
from recipes.callbacks import WarmupCosine
from recipes.training import run

PATH = RESULTS / "fit_cost.csv"
STEPS, BATCH = 1000, 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (STEPS * BATCH, 8, 8, 1)).astype("uint8")
    y = draw.integers(0, 10, len(x))
    models = {name: recipes.resnet((8, 8, 1), 10) for name in ("bare", "recipes.fit")}
    for name, model in models.items():  # compile, on few steps
        epoch(name, model, x[: 4 * BATCH], y[: 4 * BATCH])
    times = {"bare": [], "recipes.fit": []}
    for _ in range(arguments.pairs):
        for name, model in models.items():
            times[name].append(epoch(name, model, x, y))
            print(name, *(f"{seconds:.2f}" for seconds in times[name][-1]), flush=True)
    row = {"what": f"epoch of {STEPS} steps", "pairs": arguments.pairs}
    for i, clock in enumerate(("clock", "processor")):
        bare, ours = ([pair[i] for pair in times[name]] for name in ("bare", "recipes.fit"))
        row |= {f"bare_{clock}_s": f"{statistics.median(bare):.2f}", f"ours_{clock}_s": f"{statistics.median(ours):.2f}"}
        ratios = [b / a for a, b in zip(bare, ours, strict=True)]
        row[f"ratio_{clock}"] = f"{statistics.median(ratios):.4f}"
    append(PATH, {**row, **facts()})
    pauses, size = pause()
    row = dict.fromkeys(row, "") | {"what": f"checkpoint of {size / 1e6:.0f} MB", "pairs": len(pauses)}
    row |= {"ours_clock_s": f"{statistics.median(p[0] for p in pauses):.2f}"}
    row |= {"ours_processor_s": f"{statistics.median(p[1] for p in pauses):.2f}"}
    print(append(PATH, {**row, **facts()}))


def epoch(name, model, x, y):
    """Train an epoch; return the seconds on the clock and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = time.perf_counter(), time.process_time()
        if name == "bare":
            model.fit(x, y, batch_size=BATCH, callbacks=[WarmupCosine()], verbose=0)
        else:
            recipes.fit(model, (x, y), epochs=1, batch_size=BATCH, augment=None, directory=folder, verbose=0)
        return time.perf_counter() - clock, time.process_time() - processor


def pause():
    """Return the seconds, on the clock and of the processor, that checkpoints took, and the bytes of one."""
    found, save = [], run.Run.save

    def timed(self, *args, **kwargs):
        clock, processor = time.perf_counter(), time.process_time()
        save(self, *args, **kwargs)
        found.append((time.perf_counter() - clock, time.process_time() - processor))

    model = recipes.mlp((64,), 10, hidden=(2860, 2860))
    x, y = np.random.default_rng(0).normal(size=(64, 64)).astype("float32"), np.arange(64) % 10
    run.Run.save = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            recipes.fit(model, (x, y), epochs=1, batch_size=16, save_steps=1, directory=folder, verbose=0)
            size = max(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    finally:
        run.Run.save = save
    return found, size


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
