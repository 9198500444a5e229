"""What every layer of the package must do. Each check takes a `LayerCase` and raises `AssertionError`."""

import inspect
import json
import os
import re
import tempfile

import keras
import numpy as np

from tests.harness.gradients import differences, gradients


def check_arguments(case):
    """The row gives every argument a value that is not its default, and the docstring explains every argument."""
    for argument, default in _arguments(case.layer).items():
        assert argument in case.arguments, f"the case gives no value for {argument}"
        assert case.arguments[argument] != default, f"the case gives {argument} its default"
        assert f"{argument}: " in inspect.getdoc(case.layer), f"the docstring does not explain {argument}"


def check_config(case):
    """`get_config` holds every argument as it was given, and what every layer has; JSON can hold it."""
    config = case.make(name="given", dtype="mixed_bfloat16", trainable=False).get_config()
    for argument in _arguments(case.layer):
        assert argument in config, f"get_config lost {argument}"
        assert _plain(config[argument]) == _plain(case.arguments[argument]), f"get_config changed {argument}"
    assert config.get("name") == "given", "get_config lost name: it must extend super().get_config()"
    assert config.get("trainable") is False, "get_config lost trainable"
    assert "mixed_bfloat16" in str(config.get("dtype")), "get_config lost dtype"
    json.dumps(keras.saving.serialize_keras_object(case.make()))


def check_config_kept(case):
    """Building and calling leave the configuration as it was."""
    layer = case.make()
    before = _plain(layer.get_config())
    _built(case, layer)(case.x, training=True)
    assert _plain(layer.get_config()) == before, "building or calling changed the configuration"


def check_round_trip(case):
    """A layer made from the configuration, with the same weights, computes the same."""
    layer = _built(case)
    again = case.layer.from_config(layer.get_config())
    again(case.x)
    assert _plain(again.get_config()) == _plain(layer.get_config()), "from_config(get_config()) is another layer"
    again.set_weights(layer.get_weights())
    _assert_equal(again(case.x), layer(case.x), "from_config(get_config()) computes something else")


def check_shapes(case):
    """The symbolic shape and dtype are those of the computed output, with a known and with an unknown batch."""
    layer = _built(case)
    found = layer(case.x)
    dtype = keras.backend.standardize_dtype(found.dtype)
    for batch in (len(case.x), None):
        symbol = layer(keras.Input(batch_shape=(batch, *case.x.shape[1:]), dtype=case.x.dtype))
        assert tuple(symbol.shape) == (batch, *found.shape[1:]), f"symbolic {symbol.shape}, computed {found.shape}"
        assert symbol.dtype == dtype, f"symbolic {symbol.dtype}, computed {dtype}"


def check_unknown_batch(case):
    """In a compiled model, a batch of another size computes the same rows."""
    layer = _built(case)
    inputs = keras.Input(case.x.shape[1:], dtype=case.x.dtype)
    model = keras.Model(inputs, layer(inputs))
    expected = keras.ops.convert_to_numpy(layer(case.x))
    for size in (1, 2, len(case.x)):
        rows = model.predict(case.x[:size], batch_size=size, verbose=0)
        assert rows.shape == (size, *expected.shape[1:]), f"a batch of {size} came out as {rows.shape}"
        if case.rows:
            np.testing.assert_allclose(rows, expected[:size], rtol=1e-5, atol=1e-6)


def check_precision(case):
    """Under mixed precision the output is bfloat16, unless the row says bool, and the weights are stored as float32."""
    layer = _built(case, case.make(dtype="mixed_bfloat16"))
    dtype = keras.backend.standardize_dtype(layer(case.x).dtype)
    assert dtype == (case.output or "bfloat16"), f"under mixed_bfloat16 the output is {dtype}"
    for weight in layer.weights:
        assert weight.dtype == "float32", f"under mixed_bfloat16 {weight.path} is stored as {weight.dtype}"


def check_loads(case):
    """The class is registered as ours, and a `.keras` file with it loads without `custom_objects`, bit-equal."""
    registered = keras.saving.get_registered_name(case.layer)
    assert registered == f"recipes>{case.layer.__name__}", f"the class is not registered: {registered}"
    layer = _built(case)
    inputs = keras.Input(case.x.shape[1:], dtype=case.x.dtype)
    model = keras.Model(inputs, layer(inputs))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
    assert type(loaded.layers[-1]) is case.layer
    _assert_equal(loaded(case.x), model(case.x), "the loaded layer computes something else")


def check_weights(case):
    """The weights are those of the row, trainable or not, and each belongs to a path that ends in its name."""
    layer = _built(case)
    assert sorted(w.name for w in layer.trainable_weights) == sorted(case.learns)
    assert sorted(w.name for w in layer.non_trainable_weights) == sorted(case.keeps)


def check_learns(case):
    """Every trainable weight gets a gradient that is finite and not zero."""
    layer = _built(case)
    direction = np.random.default_rng(1).normal(size=layer(case.x).shape).astype("float32")
    found = gradients(
        lambda: keras.ops.sum(keras.ops.cast(layer(case.x, training=True), "float32") * direction), layer.trainable_weights
    )
    for weight, gradient in zip(layer.trainable_weights, found, strict=True):
        assert np.isfinite(gradient).all(), f"{weight.path} gets a gradient that is not finite"
        assert np.abs(gradient).max() > 0, f"{weight.path} gets no gradient"


def check_deterministic(case):
    """Inference gives the same twice. Training does too, unless the row says that it is random."""
    layer = _built(case)
    _assert_equal(layer(case.x), layer(case.x), "inference is random")
    first, second = (keras.ops.convert_to_numpy(layer(case.x, training=True)) for _ in range(2))
    assert np.array_equal(first, second) != case.random, "random in training is not what the row says"


def check_seed(case):
    """The same seed gives the same weights and the same randomness; another seed others."""

    def run(number, **changes):
        keras.utils.set_random_seed(number)
        layer = _built(case, case.make(**changes))
        return [keras.ops.convert_to_numpy(v) for v in (*layer.weights, layer(case.x, training=True))]

    unseeded = {"seed": None} if "seed" in case.arguments else {}
    first, again, other = run(1, **unseeded), run(1, **unseeded), run(2, **unseeded)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)), "the same seed gives another layer"
    if case.random:
        assert not np.array_equal(first[-1], other[-1]), "another seed gives the same randomness"
    if unseeded:
        assert np.array_equal(run(1)[-1], run(2)[-1]), "the layer's own seed does not fix its randomness"


def check_gradient(case):
    """Gradients by inputs and weights agree with central differences in float64, relative 1e-6."""
    layer = case.make(dtype="float64")
    x = case.x.astype("float64") if case.x.dtype.kind == "f" else case.x
    _built(case, layer, x)
    weights = list(layer.trainable_weights)
    if x.dtype.kind == "f":
        x = keras.Variable(x, dtype="float64", trainable=True)
        weights.append(x)
    state = [(v, keras.ops.convert_to_numpy(v)) for v in layer.variables if not v.trainable]
    direction = np.random.default_rng(1).normal(size=tuple(layer(case.x).shape))

    def loss():
        for variable, value in state:  # the same randomness every time
            variable.assign(value)
        found = layer(x if isinstance(x, np.ndarray) else x.value, training=True)
        return keras.ops.sum(keras.ops.cast(found, "float64") * direction)

    for weight, gradient in zip(weights, gradients(loss, weights), strict=True):
        expected = differences(loss, weight)
        error = np.linalg.norm(gradient - expected) / max(np.linalg.norm(expected), np.linalg.norm(gradient), 1e-12)
        assert error <= 1e-6, f"the gradient by {weight.path} differs from finite differences by {error:.1e}"


def check_bad_arguments(case):
    """Every bad argument of the row raises a `ValueError` that names it and says what was received."""
    assert_refuses(lambda changes: case.make(**changes), case.bad)


def assert_refuses(function, bad):
    """Assert that `function(changes)` raises a `ValueError` that names the argument and shows what was received."""
    faults = []
    for changes, name in bad:
        try:
            function(changes)
            faults.append(f"{changes}: accepted")
        except ValueError as error:
            message = str(error)
            if not re.search(rf"\b{name}\b", message):
                faults.append(f"{changes}: the message does not name {name}: {message}")
            if "Received" not in message and str(changes.get(name)) not in message:
                faults.append(f"{changes}: the message does not show what was received: {message}")
        except Exception as error:
            faults.append(f"{changes}: {type(error).__name__} instead of ValueError: {error}")
    assert not faults, "\n".join(faults)


def _arguments(layer):
    """The arguments that a layer's `__init__` names, and their defaults."""
    parameters = list(inspect.signature(layer.__init__).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def _built(case, layer=None, x=None):
    layer, x = layer or case.make(), case.x if x is None else x
    layer(x)
    case.prepare(layer, x)
    return layer


def _plain(value):
    return json.loads(json.dumps(value, default=keras.saving.serialize_keras_object))


def _assert_equal(found, expected, message):
    found, expected = keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected)
    assert np.array_equal(found, expected), f"{message}: largest difference {np.abs(found - expected).max()}"


ANY_BACKEND = [check_shapes, check_precision, check_weights, check_learns, check_deterministic, check_seed]
TENSORFLOW = [  # what the backend leaves alone; and gradients, since float64 is a global switch on JAX
    *(check_arguments, check_config, check_config_kept, check_round_trip, check_loads, check_bad_arguments),
    *(check_unknown_batch, check_gradient),
]
