"""Kill a training with `kill -9` at random instants, most of them while a checkpoint is written, and go on each time.

    KERAS_BACKEND=jax python benchmarks/fault.py --kills 100 --minutes 10

A child trains a small network with dropout, batch normalization, an average of the weights, a schedule, augmentation and
early stopping in a directory of `recipes.fit`, with a checkpoint after every step. Three kills of four come at a random call
of `os.open`, `write`, `fsync`, `replace`, `unlink` or `close`, before or after it; one at a random time. After each kill
the newest checkpoint must be whole and hold every step whose checkpoint was finished; when the run has got to its end, its
weights, moments and seeds must be those, bit for bit, of the run that was never killed, and its history too.

The libraries are imported once and each child is forked before either has begun to compute. Rows are appended to
benchmarks/results/fault.csv, one a kill; the script goes on where it stopped and exits with 1 if a row says no.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import keras
import numpy as np
from rows import RESULTS, append, facts, read

import recipes
from recipes.training import checkpoints, state
from recipes.training.recipe import compile_model

PATH = RESULTS / "fault.csv"
HOOKED = ("open", "write", "fsync", "replace", "unlink", "close")
EPOCHS, STEPS = 8, 5
INSTANTS = 320  # at most before a kill; a step and its checkpoint have about 55


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="rows in all for this backend")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    until, backend = time.monotonic() + 60 * arguments.minutes, keras.backend.backend()
    rows = [row for row in read(PATH) if row["backend"] == backend]
    with tempfile.TemporaryDirectory() as folder:
        expected = run_child(os.path.join(folder, "whole"), os.path.join(folder, "whole.json"))
        run = 1 + max((int(row["run"]) for row in rows), default=0)
        while len(rows) < arguments.kills and time.monotonic() < until:
            rows += torture(folder, run, expected, backend, until)
            run += 1
    kills, ends = [r for r in rows if r["killed_at"] != "end"], [r for r in rows if r["killed_at"] == "end"]
    bad = [r for r in kills if r["whole"] != "yes"] + [r for r in ends if r["equal"] != "yes"]
    print(f"{backend}: {len(kills)} kills, {len(ends)} runs to their end, {len(bad)} rows that should not be")
    sys.exit(1 if bad else 0)


def torture(folder, run, expected, backend, until):
    """Kill one run until it gets to its end; return its rows."""
    directory, result = os.path.join(folder, f"run{run}"), os.path.join(folder, f"run{run}.json")
    draw, rows, kill = random.Random(f"{backend} {run}"), [], 0
    while time.monotonic() < until:
        kill += 1
        instant = draw.randint(1, INSTANTS) if draw.random() < 0.75 else None
        seconds = None if instant else draw.uniform(1, 8)
        found = run_child(directory, result, instant, seconds)
        row = {"backend": backend, "run": run, "kill": kill}
        if isinstance(found, dict):  # it got to the end before the kill
            equal = "yes" if found == expected else "no"
            rows.append(
                append(PATH, {**row, "killed_at": "end", "saved": "", "found": "", "whole": "", "equal": equal, **facts()})
            )
            break
        saved = read_saved(directory)
        try:
            newest = checkpoints.newest(directory, "checkpoint-") if os.path.isdir(directory) else None
            position = newest[2]["position"] if newest else {"epoch": 0, "batch": 0}
            step = position["epoch"] * STEPS + position["batch"]
            whole = "yes" if step >= saved else "no"
        except ValueError as error:
            step, whole = "", f"no: {error}"
        row |= {"killed_at": found, "saved": saved, "found": step, "whole": whole, "equal": ""}
        rows.append(append(PATH, {**row, **facts()}))
    shutil.rmtree(directory, ignore_errors=True)
    return rows


def run_child(directory, result, instant=None, seconds=None):
    """Train in a child. Return what it ended with, or where it was killed."""
    child = os.fork()
    if not child:
        try:
            train(directory, result, instant)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        place = f"{directory}.killed"
        return open(place, encoding="utf-8").read() if instant and os.path.exists(place) else f"{seconds:.2f} s"
    if os.WEXITSTATUS(status):
        raise RuntimeError("the child ended with an error")
    with open(result, encoding="utf-8") as file:
        return json.load(file)


def train(directory, result, instant):
    """The training; dies at the given instant."""
    if instant:
        count, note = [0], os.open(f"{directory}.killed", os.O_WRONLY | os.O_CREAT, 0o644)
        real = {name: getattr(os, name) for name in HOOKED}

        def hook(name):
            def call(*arguments, **keywords):
                tick(f"before {name}")
                value = real[name](*arguments, **keywords)
                tick(f"after {name}")
                return value

            return call

        def tick(place):
            count[0] += 1
            if count[0] == instant:
                os.ftruncate(note, 0)
                real["write"](note, place.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        for name in HOOKED:
            setattr(os, name, hook(name))
    random.seed(0)
    np.random.seed(0)
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(8 * STEPS, 4)).astype("float32"), draw.integers(0, 3, 8 * STEPS)
    inputs = keras.Input((4,), name="x")
    z = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(8, name="hidden")(inputs))
    z = keras.layers.Dropout(0.3, name="dropout")(keras.layers.ReLU(name="relu")(z))
    model = compile_model(keras.Model(inputs, keras.layers.Dense(3, name="logits")(z), name="small"), learning_rate=0.02)
    history = recipes.fit(
        model,
        (x, y),
        validation=(x[:8], y[:8]),
        epochs=EPOCHS,
        batch_size=8,
        ema=0.9,
        early_stopping=EPOCHS,
        augment=lambda images, rng: images + rng.normal(size=images.shape).astype("float32"),
        directory=directory,
        save_steps=1,
        callbacks=[Progress(directory)],
        verbose=0,
    )
    digest = hashlib.sha256()
    for name, array in state.read_variables(state.model_variables(model)).items():
        digest.update(name.encode() + array.tobytes())
    with open(result, "w", encoding="utf-8") as file:
        json.dump({"sha256": digest.hexdigest(), "history": history.history}, file)


class Progress(keras.callbacks.Callback):
    """Writes down, past the page cache of this process, the step whose checkpoint is finished."""

    def __init__(self, directory):
        super().__init__()
        self.path = f"{directory}.saved"

    def get_state(self):
        return {}

    def set_state(self, kept):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        self.before = epoch * STEPS

    def on_train_batch_begin(self, batch, logs=None):
        if batch:  # before the first step of an epoch nothing is saved
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(f"{self.before + batch:6d}")


def read_saved(directory):
    try:
        with open(f"{directory}.saved", encoding="utf-8") as file:
            return int(file.read() or 0)
    except OSError:
        return 0


if __name__ == "__main__":
    main()
