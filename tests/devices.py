"""Train on one device and on several in a process of its own, and print how far the weights end apart.

python tests/devices.py jax|tensorflow
"""

import contextlib
import os
import sys

BACKEND = sys.argv[1]
os.environ["KERAS_BACKEND"] = BACKEND
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import recipes  # noqa: E402
from recipes.training.distribution import transformer_layout  # noqa: E402
from recipes.training.recipe import recompile  # noqa: E402

X, Y = recipes.data.load("digits").train
X = X.reshape(-1, 64) / np.float32(100)


def trained(build, data, **arguments):
    """Return the model, its weights before and after a short `recipes.fit`, and the losses."""
    keras.utils.set_random_seed(0)
    model = build()
    start = model.get_weights()
    history = recipes.fit(model, data, epochs=2, verbose=0, **{"batch_size": 16, **arguments}).history
    return model, start, model.get_weights(), history.get("val_loss", history["loss"])


def compare(name, one, other):
    _, start, weights, losses = one
    moved = max(float(np.abs(a - b).max()) for a, b in zip(start, weights, strict=True))
    apart = max(float(np.abs(a - b).max()) for a, b in zip(weights, other[2], strict=True))
    print(name, moved, apart, float(np.abs(np.subtract(losses, other[3])).max()), flush=True)


# Adam divides a gradient by its own size, and where that is zero but for rounding its steps differ: plain steps instead.


def normalised():
    """A network with batch normalisation, whose statistics are those of the whole batch."""
    dense = keras.layers.Dense(8, name="hidden")
    norm, last = keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(10, name="last")
    model = keras.Sequential([keras.Input((64,)), dense, norm, keras.layers.ReLU(name="relu"), last])
    model.compile(keras.optimizers.SGD(0.05), recipes.CrossEntropy())
    return model


def gpt():
    model = recipes.gpt(vocabulary_size=12, max_length=8, width=16, heads=2, depth=1, dropout=0.0)
    return recompile(model, optimizer="sgd", learning_rate=0.05)


def table():
    model = recipes.mlp((64,), 10, hidden=(16,), dropout=0.0, adapt=X)
    return recompile(model, optimizer="sgd", learning_rate=0.05)


def on_jax():
    devices = keras.distribution.list_devices("cpu")
    data, held = (X[:36], Y[:36]), (X[40:80], Y[40:80])  # the last batch of 4: one a device
    one = trained(normalised, data, validation=held)
    with keras.distribution.DataParallel(devices=devices).scope():
        compare("data", one, trained(normalised, data, validation=held))
        try:
            trained(normalised, data, batch_size=6)
        except ValueError as error:
            print(error)
    ids = np.random.default_rng(0).integers(0, 12, (16, 8))
    one = trained(gpt, ids)
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layout = transformer_layout(mesh)
    with keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch").scope():
        other = trained(gpt, ids)
        compare("model", one, other)
        for weight in ("qkv", "mix"):
            kernel = getattr(other[0].get_layer("block0_attention"), weight).kernel
            print(kernel.path, kernel.shape, kernel.value.addressable_shards[0].data.shape)


def on_tensorflow():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = []
    for scope in (contextlib.nullcontext(), strategy.scope()):
        with scope:
            results.append(trained(table, (X[:90], Y[:90]), validation=(X[90:130], Y[90:130])))
    compare("mirrored", *results)


if __name__ == "__main__":
    on_jax() if BACKEND == "jax" else on_tensorflow()
