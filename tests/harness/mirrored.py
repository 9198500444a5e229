"""One device and two: generative models must train to the same weights. TensorFlow wants a process of its own for it.

    python -m tests.harness.mirrored [NAME ...]    # rows of tests/generative_cases.py

Prints a line of JSON for each row: how far two devices end from one, as a part of the way that the weights went. What is
random is replaced by numbers that are the same for each half of a batch, and the halves of the data are equal, so that
each device sees what it would see in the whole batch; and plain gradient steps replace Adam's, whose length would hide a
loss that counts twice.
"""

import contextlib
import json
import os
import sys
import traceback
from unittest import mock

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from recipes.training.recipe import recompile
from tests.generative_cases import GENERATIVE
from tests.harness.generative import eager
from tests.harness.recipes import fit
from tests.harness.state import rows_of, values_of

HALF = 4


def main(names):
    """Compare the rows called `names`, or all that say they can be compared."""
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    for case in GENERATIVE:
        if case.name in names or (not names and case.mirrored):
            try:
                found = compare(case, strategy)
            except Exception:
                found = {"error": traceback.format_exc()}
            print(json.dumps({"name": case.name, **found}), flush=True)


def compare(case, strategy):
    """Return how far the weights and the losses of two devices are from those of one."""
    x, y = (None if data is None else rows_of(data, [*range(HALF)] * 2) for data in (case.x, case.y))
    case = case.replace(x=x, y=y)
    with contextlib.ExitStack() as stack:
        for name in ("normal", "truncated_normal", "uniform", "randint"):
            stack.enter_context(mock.patch.object(keras.random, name, halves_alike(getattr(keras.random, name))))
        stack.enter_context(mock.patch.object(keras.layers.Dropout, "call", lambda layer, inputs, training=False: inputs))
        (start, one, learned, losses), (_, two, _, other_losses) = (
            trained(case, scope) for scope in (contextlib.nullcontext(), strategy.scope())
        )
    kept = [path for path in one if path not in learned]  # statistics, averages, numbers of steps
    return {
        "weights": apart(start, one, two, learned),
        "state": apart(start, one, two, kept) if kept else 0.0,
        "loss": float(np.abs(np.subtract(losses, other_losses)).max() / max(1e-3, np.abs(losses).max())),
    }


def apart(start, one, two, paths):
    """Return the distance of `two` from `one`, as a part of the way of `one` from the start."""

    def distance(a, b):
        return np.sqrt(sum(np.square(a[path] - b[path], dtype="float64").sum() for path in paths))

    return float(distance(one, two) / max(1e-12, distance(one, start)))


def trained(case, scope):
    """Return the weights before and after some steps, the paths of those that learn, and the losses."""
    keras.utils.set_random_seed(1)
    with scope:
        model = case.build()
        recompile(model, optimizer="sgd", momentum=0.0, learning_rate=1e-2, weight_decay=0.0, global_clipnorm=None)
        start = values_of(model)
        losses = fit(eager(model), case, 2).history["loss"]
    return start, values_of(model), [v.path for v in model.trainable_variables], losses


def halves_alike(draw):
    """Return a function like `draw` of `keras.random` whose numbers are the same in each half of a batch, and each time."""

    def drawn(shape, *arguments, seed=None, **options):
        shape = tuple(shape)
        if not shape:
            return draw(shape, *arguments, seed=7, **options)
        numbers = draw((HALF, *shape[1:]), *arguments, seed=7, **options)
        return keras.ops.take(numbers, keras.ops.arange(shape[0]) % HALF, axis=0)

    return drawn


if __name__ == "__main__":
    main(sys.argv[1:])
