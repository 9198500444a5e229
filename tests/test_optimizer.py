"""AdamW and SGD against Keras' own and against closed forms in float64."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import recipes
from recipes.training.optimizer import SGD, AdamW, decays

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.normal(size=(4, 3)).astype("float32"), RANDOM.normal(size=3).astype("float32")
STEPS = [(RANDOM.normal(size=(4, 3)).astype("float32"), RANDOM.normal(size=3).astype("float32")) for _ in range(6)]
X, Y = RANDOM.normal(size=(8, 4)).astype("float32"), RANDOM.normal(size=(8, 1)).astype("float32")


def variables():
    """A kernel and a bias of a layer called `dense`."""
    with keras.name_scope("dense"):
        return [keras.Variable(KERNEL, name="kernel"), keras.Variable(BIAS, name="bias")]


def run(optimizer, steps=STEPS):
    """Apply a sequence of gradients; return kernel and bias."""
    weights = variables()
    optimizer.build(weights)
    for gradients in steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])
    return [keras.ops.convert_to_numpy(v) for v in weights]


def adamw(value, gradients, rate=1e-2, decay=0.0, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """Loshchilov & Hutter, 2019, algorithm 2, as torch computes it, in float64. `beta_1` may be one number a step."""
    value, m, v = value.astype("float64"), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        beta = beta_1[t - 1] if isinstance(beta_1, (list, tuple)) else beta_1
        gradient = gradient.astype("float64")
        value = value * (1 - rate * decay)
        m = beta * m + (1 - beta) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        value = value - rate * (m / (1 - beta**t)) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
    return value


def sgd(value, gradients, rate=1e-2, decay=0.0, momentum=0.9, nesterov=True):
    """Sutskever et al., 2013, in float64. `momentum` may be one number a step."""
    value, velocity = value.astype("float64"), 0.0
    for t, gradient in enumerate(gradients):
        mu = momentum[t] if isinstance(momentum, (list, tuple)) else momentum
        value = value * (1 - rate * decay)
        velocity = mu * velocity - rate * gradient.astype("float64")
        value = value + (mu * velocity - rate * gradient if nesterov else velocity)
    return value


def kernels():
    return [step[0] for step in STEPS]


def biases():
    return [step[1] for step in STEPS]


def tiny(optimizer, **compile_arguments):
    """A model with a stem and a head, compiled."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(5, activation="tanh", name="stem", bias_initializer="ones"),
        keras.layers.Dense(1, name="head", bias_initializer="ones"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse", **compile_arguments)
    return model


# ------------------------------------------------------------------------------------------------------ the update


def test_adamw_is_that_of_keras():
    theirs = keras.optimizers.AdamW(1e-2, weight_decay=0.1, epsilon=1e-8)
    theirs.exclude_from_weight_decay(var_names=["bias"])
    for found, expected in zip(run(AdamW(1e-2, weight_decay=0.1)), run(theirs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)


def test_adamw_is_the_closed_form():
    kernel, bias = run(AdamW(1e-2, weight_decay=0.1, beta_1=0.8, beta_2=0.95))
    np.testing.assert_allclose(kernel, adamw(KERNEL, kernels(), decay=0.1, beta_1=0.8, beta_2=0.95), atol=1e-6)
    np.testing.assert_allclose(bias, adamw(BIAS, biases(), beta_1=0.8, beta_2=0.95), atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_is_that_of_keras_and_the_closed_form(momentum, nesterov):
    found = run(SGD(1e-2, momentum=momentum, nesterov=nesterov, weight_decay=0.1))
    theirs = keras.optimizers.SGD(1e-2, momentum=momentum, nesterov=nesterov, weight_decay=0.1)
    theirs.exclude_from_weight_decay(var_names=["bias"])
    for a, b in zip(found, run(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-7)
    expected = sgd(KERNEL, kernels(), decay=0.1, momentum=momentum, nesterov=nesterov and momentum > 0)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(
        found[1], sgd(BIAS, biases(), momentum=momentum, nesterov=nesterov and momentum > 0), atol=1e-6
    )


def test_sgd_reproduces_coupled_decay_of_torch_in_the_long_run():
    """The docstring's rule: torch's `weight_decay=d` with momentum m shrinks as ours with `d / (1 - m)`."""
    zeros = [(np.zeros_like(KERNEL), np.zeros_like(BIAS))] * 300
    ours = run(SGD(0.1, momentum=0.9, weight_decay=1e-3 / (1 - 0.9)), zeros)[0]
    weight, velocity = KERNEL.astype("float64"), 0.0
    for _ in range(300):
        velocity = 0.9 * velocity + 1e-3 * weight
        weight = weight - 0.1 * velocity
    np.testing.assert_allclose(ours, weight, rtol=0.02)


def test_a_schedule_can_be_compiled_in():
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2], [1e-2, 0.0])
    found = run(SGD(rates, momentum=0.0, weight_decay=None))[0]  # three steps learn, the rest has the rate 0
    np.testing.assert_allclose(found, sgd(KERNEL, kernels()[:3], momentum=0.0, nesterov=False), atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- decay


@pytest.mark.parametrize(
    "scope, name, shape, expected",
    [
        ("dense", "kernel", (3, 4), True),
        ("conv", "kernel", (3, 3, 4, 8), True),
        ("token_embedding", "embeddings", (10, 4), True),
        ("embedding", "table", (10, 4), True),
        ("dense", "bias", (4,), False),
        ("attention_query", "bias", (2, 4), False),
        ("norm", "gamma", (4,), False),
        ("norm", "beta", (1, 1, 4), False),
        ("scale", "scale", (4,), False),
        ("position_embedding", "embeddings", (10, 4), False),
        ("bert_position_embedding", "embeddings", (10, 4), False),
        ("vit", "position_embedding", (1, 10, 4), False),
        ("tokens", "class_token", (1, 1, 4), False),
    ],
)
def test_decay_spares_vectors_and_places(scope, name, shape, expected):
    with keras.name_scope(scope):
        assert decays(keras.Variable(np.ones(shape, "float32"), name=name)) is expected


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_decay_is_the_same_after_a_reload(kind, tmp_path):
    model = tiny(kind(0.1, weight_decay=0.5))
    model.fit(X, Y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is kind
    for each in (model, loaded):
        fresh = kind.from_config(each.optimizer.get_config())
        weights = each.trainable_variables
        fresh.build(weights)
        before = [keras.ops.convert_to_numpy(v) for v in weights]
        fresh.apply([keras.ops.zeros(v.shape) for v in weights])
        for variable, value in zip(weights, before, strict=True):
            factor = 1 - 0.1 * 0.5 if "kernel" in variable.path else 1.0
            np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), value * factor, rtol=1e-6)


# ----------------------------------------------------------------------------------------------------- multipliers


@pytest.mark.parametrize("kind, closed", [(AdamW, adamw), (SGD, sgd)])
def test_a_factor_multiplies_rate_and_decay(kind, closed):
    kernel, bias = run(kind(1e-2, weight_decay=0.1, lr_multipliers=[("bias$", 0.5), ("dense/", 0.1), ("", 7.0)]))
    np.testing.assert_allclose(kernel, closed(KERNEL, kernels(), rate=1e-3, decay=0.1), atol=1e-6)
    np.testing.assert_allclose(bias, closed(BIAS, biases(), rate=5e-3), atol=1e-6)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_the_factor_0_keeps_a_weight_bit_equal(kind):
    kernel, bias = run(kind(0.1, weight_decay=0.5, lr_multipliers=[("kernel", 0.0)]))
    assert np.array_equal(kernel, KERNEL) and not np.array_equal(bias, BIAS)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_factors_survive_a_reload(kind, tmp_path):
    model = tiny(kind(0.1, weight_decay=0.5, lr_multipliers=[("(^|/)stem/", 0.0)]))
    model.fit(X, Y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        before = each.get_weights()
        each.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        assert all(np.array_equal(a, b) for a, b in zip(before[:2], each.get_weights()[:2], strict=True))
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_learning_rate_stays_readable_and_settable_with_factors():
    optimizer = AdamW(1e-2, lr_multipliers=[("stem", 0.1)])
    model = tiny(optimizer)
    model.optimizer.learning_rate = 5e-3
    model.fit(X, Y, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-3)


def test_the_global_norm_is_one_norm_whatever_the_factors():
    multipliers = [("kernel", 0.1), ("bias", 0.5)]
    kernel, bias = run(SGD(1.0, momentum=0.0, global_clipnorm=0.5, lr_multipliers=multipliers), STEPS[:1])
    norm = np.sqrt(sum(np.square(g, dtype="float64").sum() for g in STEPS[0]))
    np.testing.assert_allclose(kernel, KERNEL - 0.1 * STEPS[0][0] * 0.5 / norm, atol=1e-6)
    np.testing.assert_allclose(bias, BIAS - 0.5 * STEPS[0][1] * 0.5 / norm, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_accumulated_batches_equal_one_big_batch(kind):
    arguments = {"weight_decay": 0.1, "lr_multipliers": [("stem", 0.3)]}
    whole, halves = tiny(kind(0.05, **arguments)), tiny(kind(0.05, gradient_accumulation_steps=2, **arguments))
    whole.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    halves.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    assert int(whole.optimizer.iterations) == int(halves.optimizer.iterations) == 3
    for a, b in zip(whole.get_weights(), halves.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- momentum


@pytest.mark.parametrize("kind, closed", [(AdamW, adamw), (SGD, sgd)])
def test_momentum_can_be_moved_between_steps(kind, closed):
    weights, optimizer = variables(), kind(1e-2, weight_decay=0.0)
    optimizer.build(weights)
    momenta = [0.95, 0.9, 0.85, 0.85, 0.9, 0.95]
    for momentum, gradients in zip(momenta, STEPS, strict=True):
        optimizer.momentum_variable.assign(momentum)
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])
    found = keras.ops.convert_to_numpy(weights[0])
    np.testing.assert_allclose(found, closed(KERNEL, kernels(), 1e-2, 0.0, momenta), atol=1e-6)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_moving_momentum_takes_effect_in_a_compiled_step(kind):
    def train(change, eagerly):
        model = tiny(kind(0.05, weight_decay=0.0), run_eagerly=eagerly)
        for step in range(4):
            if change and step == 2:
                model.optimizer.momentum_variable.assign(0.1)
            model.train_on_batch(X, Y)
        return model.get_weights()[0]

    moved = train(True, False)
    assert np.abs(moved - train(False, False)).max() > 1e-4
    np.testing.assert_allclose(moved, train(True, True), atol=1e-6)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_momentum_is_saved(kind, tmp_path):
    model = tiny(kind(0.05))
    model.fit(X, Y, verbose=0)
    model.optimizer.momentum_variable.assign(0.7)
    assert any(v is model.optimizer.momentum_variable for v in model.optimizer.variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.momentum_variable.value) == pytest.approx(0.7)


# ----------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_the_public_class_is_registered_and_round_trips(kind):
    assert getattr(recipes, kind.__name__) is kind
    assert keras.saving.get_registered_name(kind) == f"recipes>{kind.__name__}"
    optimizer = kind(0.03, weight_decay=0.2, lr_multipliers=[("a", 0.5)], global_clipnorm=1.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is kind and again.get_config() == optimizer.get_config()


@pytest.mark.parametrize("kind", [AdamW, SGD])
@pytest.mark.parametrize("rate", [1, 0])
def test_an_integer_learning_rate_is_a_float(kind, rate):
    assert float(kind(rate).learning_rate) == rate
    run(kind(rate))


@pytest.mark.parametrize("kind", [AdamW, SGD])
@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"lr_multipliers": [("stem", -1.0)]}, "lr_multipliers"),
        ({"lr_multipliers": [("(", 1.0)]}, "lr_multipliers"),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, name):
    with pytest.raises(ValueError, match=f"{name}.*Received"):
        kind(**arguments)


@pytest.mark.parametrize("kind, name", [(AdamW, "beta_1"), (SGD, "momentum")])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_bad_momentum_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=name):
        kind(**{name: value})


MIRRORED = """
import sys
import keras, numpy as np, tensorflow as tf
import recipes

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def train():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="stem"), keras.layers.Dense(1)])
    optimizer = getattr(recipes, sys.argv[1])(0.05, weight_decay=0.1, lr_multipliers=[("stem", 0.3)])
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, x[:, :1], batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model.get_weights()

one = train()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = train()
print("largest difference", max(float(np.abs(a - b).max()) for a, b in zip(one, two)))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
@pytest.mark.parametrize("kind", ["AdamW", pytest.param("SGD", marks=pytest.mark.thorough)])
def test_two_replicas_equal_one(kind):
    """Without `global_clipnorm`: Keras clips the gradients of each replica before it adds them up."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", MIRRORED, kind], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split("largest difference")[1]) < 1e-6
