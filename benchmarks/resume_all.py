"""Every recipe of tests/cases.py and tests/generative_cases.py, broken off and gone on with, bit for bit.

    KERAS_BACKEND=jax python benchmarks/resume_all.py --minutes 10 [name ...]

Each row trains for two epochs of three batches in a directory of `recipes.fit`, with its own schedule, augmentation and
average, and with dropout as built: once to the end, once broken off at the end of the first epoch and once within the
second. What the broken runs end with, after all state was overwritten and the same call made again, must be what the whole
run ended with: each weight, moment and seed, and the history. A line a row is appended to benchmarks/results/resume.csv;
rows that went on as they should are not run again.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import keras
import numpy as np
from rows import RESULTS, append, facts, read

import recipes
from recipes.training import state
from recipes.training.finite import guard

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tests import cases, generative_cases  # noqa: E402

PATH = RESULTS / "resume.csv"
BREAKS = {"end of an epoch": 3, "middle of an epoch": 4}


class BrokenOff(Exception):
    pass


class Break(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step, self.seen = step, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen == self.step:
            raise BrokenOff
        self.seen += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of rows; all by default")
    parser.add_argument("--minutes", type=float, default=120)
    arguments = parser.parse_args()
    until, backend = time.monotonic() + 60 * arguments.minutes, keras.backend.backend()
    done = {(row["backend"], row["case"]) for row in read(PATH) if row["equal"] == "yes"}
    growing = next(case for case in cases.RECIPES if case.builder is recipes.resnet)
    growing = dataclasses.replace(growing, name=f"{growing.name}, growing images")
    for case in [*cases.RECIPES, *generative_cases.GENERATIVE, growing]:
        if time.monotonic() > until:
            break
        if (backend, case.name) in done or (arguments.names and case.name not in arguments.names):
            continue
        start = time.perf_counter()
        try:
            found = check(case, sizes=(10, 8) if case is growing else "auto")
        except Exception as error:
            found = f"{type(error).__name__}: {error}"[:200]
        seconds = f"{time.perf_counter() - start:.0f}"
        append(PATH, {"backend": backend, "case": case.name, "equal": found, "seconds": seconds, **facts()})
        print(f"{backend} {case.name}: {found}", flush=True)
        keras.utils.clear_session()
    latest = {(row["backend"], row["case"]): row for row in read(PATH)}
    bad = [row for row in latest.values() if row["equal"] != "yes"]
    sys.exit(f"{len(bad)} rows do not go on as they should" if bad else 0)


def check(case, sizes="auto"):
    """Return "yes", or what differs."""
    keras.utils.set_random_seed(1)
    model = case.build()
    guard(model)
    model.optimizer.build(model.trainable_variables)
    first = state.read_variables(state.model_variables(model))
    data = (case.x,) if getattr(case, "y", None) is None else (case.x, case.y)
    data = keras.tree.map_structure(lambda a: np.concatenate([a] * (6 // len(a) + 1))[:12], data)
    rows = len(keras.tree.flatten(data)[0])

    training, schedule = model.recipe["training"], "auto"
    if (training.get("schedule_arguments") or {}).get("warmup", 0) > 6:  # steps, more than there are
        schedule = getattr(recipes.callbacks, training["schedule"])(warmup=2)

    def begin(spoiled):
        for name, variable in state.model_variables(model).items():
            value = first.get(name, np.zeros(variable.shape, variable.dtype))
            variable.assign(np.full_like(value, 3) if spoiled and not name.endswith("learning_rate") else value)

    def go(directory, step=None):
        return recipes.fit(
            model,
            data if len(data) == 2 else data[0],
            epochs=2,
            batch_size=max(1, rows // 3),
            directory=directory,
            save_steps=1,
            schedule=schedule,
            sizes=sizes,
            callbacks=[Break(step)],
            verbose=0,
        )

    with tempfile.TemporaryDirectory() as folder:
        begin(False)
        whole = go(os.path.join(folder, "whole"))
        expected = state.read_variables(state.model_variables(model))
        for name, step in BREAKS.items():
            begin(False)
            try:
                go(os.path.join(folder, str(step)), step)
                return f"{name}: not broken off"
            except BrokenOff:
                begin(True)
            history = go(os.path.join(folder, str(step)))
            found = state.read_variables(state.model_variables(model))
            differ = [n for n, a in expected.items() if found[n].tobytes() != a.tobytes()]
            if differ or history.history != whole.history:
                return f"{name}: {', '.join(differ[:3]) or 'history'} and {max(0, len(differ) - 3)} more differ"
    return "yes"


if __name__ == "__main__":
    main()
