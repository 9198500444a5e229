"""Training for a given time, the same for all systems of a benchmark, and trained models that are kept for the next run."""

import json
import time
from pathlib import Path

import keras
import numpy as np

import recipes

KEPT = Path(__file__).parents[1] / "runs"
PROBE = 12  # timed steps, the first two of which are left out


def fit_within(build, data, seconds, most=10_000, verbose=2, **settings):
    """Train what `build()` returns with `recipes.fit` for as long as the time allows.

    A few timed steps say how many epochs that is. Where it is less than one, the model sees only the first of the examples.

    Args:
        build: Function that returns a new model, always the same.
        data: What `recipes.fit` takes: an array, a dict of arrays, or a tuple of these, in random order.
        seconds: Time of training, without building and compiling.
        most: Number of epochs at most.
        verbose: As in `keras.Model.fit`.
        **settings: Of `recipes.fit`.

    Returns:
        `(model, facts)`: the trained model, and a dict of `epochs`, `examples`, `seconds`, `cpu_seconds`, `parameters`.
    """
    model = build()
    size, clock = settings.pop("batch_size", model.recipe["training"]["batch_size"]), Steps()
    total = len(keras.tree.flatten(data)[0])
    size = min(size, total)
    passes = -(-PROBE * size // total)  # of data that are fewer than the timed steps want
    recipes.fit(model, first(data, PROBE * size), epochs=passes, batch_size=size, verbose=0, callbacks=[clock], **settings)
    usual = np.mean if settings.get("group_by_length") else np.median  # long texts take longer than short ones
    step = float(usual(np.diff(clock.times)[1:])) if len(clock.times) > 2 else 0.01
    affordable = seconds / (step * total / size)
    epochs, examples = min(most, max(1, int(affordable))), total
    if affordable < 1:
        examples = max(size, int(affordable * total) // size * size)
        data = first(data, examples)
    print(f"{model.name}: {1000 * step:.0f} ms a step of {size}, so {epochs} epochs of {examples}", flush=True)
    model, clock, start, cpu = build(), Steps(), time.perf_counter(), time.process_time()
    recipes.fit(model, data, epochs=epochs, batch_size=size, verbose=verbose, callbacks=[clock], **settings)
    return model, {
        "epochs": epochs,
        "examples": examples,
        "seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(time.process_time() - cpu),
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    }


def kept(name, train):
    """Return the model and the facts that `train()` returns; they are kept in runs/ and read from there the next time.

    A changed default is not noticed: delete runs/ after one.
    """
    folder, facts = KEPT / name, KEPT / f"{name}.json"
    if facts.exists():
        return recipes.load_model(folder), json.loads(facts.read_text())
    model, found = train()
    KEPT.mkdir(exist_ok=True)
    recipes.save(model, folder)
    facts.write_text(json.dumps(found))
    return model, found


def first(data, count):
    """Return the first `count` examples of each array."""
    return keras.tree.map_structure(lambda array: array[:count], data)


class Steps(keras.callbacks.Callback):
    """Notes the time after each step."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())
