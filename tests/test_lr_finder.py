"""The range test: what it suggests, when it stops, and that it leaves no trace."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from recipes.callbacks import LRFinder, RangeTest, WarmupCosine
from recipes.training.optimizer import SGD, AdamW


def digits(count=256):
    x, y = load_digits(return_X_y=True)
    return (x[:count] / 16).astype("float32"), y[:count]


def make_model(optimizer, shape=(64,)):
    layers = [
        keras.layers.Dense(32, name="hidden"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Dropout(0.3, name="dropout"),
        keras.layers.Dense(10, name="logits"),
    ]
    model = keras.Sequential([keras.Input(shape), *layers] if shape else layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def state(model):
    assert any("seed" in variable.path for variable in model.variables)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def same(before, after):
    return len(before) == len(after) and all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))


def fit(model):
    x, y = digits()
    model.fit(x, y, batch_size=32, epochs=1, shuffle=False, callbacks=[WarmupCosine()], verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize("make", [lambda: AdamW(3e-3), lambda: keras.optimizers.SGD(0.1, momentum=0.9)])
def test_everything_is_put_back_bit_for_bit(make):
    """A model that ran the test goes on exactly like its twin that did not."""
    weights = []
    for test in (False, True):
        keras.utils.set_random_seed(0)
        model = make_model(make())
        fit(model)
        if test:
            before = state(model)
            found = LRFinder(steps=30).run(model, *digits())
            assert same(before, state(model))
        fit(model)
        weights.append(state(model))
    assert same(*weights)
    assert len(found.rates) == len(found.losses) > 3


@pytest.mark.any_backend
def test_an_unbuilt_model_and_optimizer():
    model = make_model(SGD(0.1), shape=None)
    LRFinder(steps=10).run(model, *digits(64))
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == np.float32(0.1)
    assert not np.any(keras.ops.convert_to_numpy(model.optimizer.momentums[0]))
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, np.zeros(32))
    fit(model)


@pytest.mark.any_backend
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("where", ["data", "step"])
def test_put_back_when_it_raises(built, where):
    x, y = digits(64)

    def broken():
        for i in range(8):
            if i == 5 and where == "data":
                raise RuntimeError("disk on fire")
            columns = 63 if i == 5 else 64  # too few for the model
            yield x[8 * i : 8 * i + 8, :columns], y[8 * i : 8 * i + 8]

    model = make_model(AdamW(1e-3))
    if built:
        fit(model)
        before = state(model)
    else:
        before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    with pytest.raises(Exception, match="disk on fire" if where == "data" else "63"):
        LRFinder(steps=20).run(model, broken())
    callback = keras.callbacks.Callback()
    callback.set_model(model)
    assert callback.model is model  # on JAX this read would write a pending state over what was put back
    after = state(model)
    assert same(before, after[: len(before)])
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == np.float32(1e-3)
    fit(model)
    assert not same(before, state(model)[: len(before)])


@pytest.mark.any_backend
def test_it_stops_when_the_loss_diverges():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = x @ np.array([1.0, -2.0, 3.0, 0.5], "float32")
    before = model.get_weights()
    found = LRFinder(1e-4, 1e3, steps=70).run(model, x, y)
    assert len(found.rates) < 70 and np.isfinite(found.losses).all()
    # the loss diverges from 2 / (largest curvature) on, which is close to 1 here: below it, above where nothing happens
    assert 3e-3 < found.suggestion < 0.7
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e7) / 69, rtol=1e-6)


@pytest.mark.any_backend
def test_a_loss_that_is_not_finite_ends_the_test():
    model = make_model(keras.optimizers.SGD(0.1))
    x, y = digits()
    x = x.copy()
    x[17] = np.nan
    before = state(model)
    found = LRFinder(steps=20).run(model, x, y)
    assert len(found.losses) < 8
    assert same(before, state(model)[: len(before)])


def test_the_suggestion_trains():
    x, y = digits(1000)
    model = make_model(SGD(1e-4))
    found = LRFinder().run(model, x, y)
    model.optimizer.learning_rate = found.suggestion
    history = model.fit(x, y, batch_size=32, epochs=4, callbacks=[WarmupCosine()], verbose=0)
    assert history.history["accuracy"][-1] > 0.9


def test_the_formula():
    rates = np.logspace(-5, 0, 60)
    losses = 2 - 1.5 / (1 + np.exp(-4 * (np.log10(rates) + 2.5)))  # steepest at 10 ** -2.5
    found = RangeTest(rates, np.append(losses[:-3], [3.0, 9.0, 40.0]))
    assert found.suggestion == pytest.approx(10**-2.5, rel=0.15)
    np.testing.assert_allclose(found.smoothed[10], found.losses[7:14].mean())
    for useless in ([], [1.0, 2.0], list(np.linspace(1, 2, 20))):
        with pytest.raises(ValueError, match="minimum"):
            RangeTest(rates[: len(useless)], np.array(useless)).suggestion  # noqa: B018


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = digits(48)
        return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16], np.ones(16, "float32")


@pytest.mark.any_backend
def test_datasets_and_structures():
    model = make_model(keras.optimizers.Adam(1e-3))
    assert len(LRFinder(maximum=1e-3, steps=10).run(model, Batches()).losses) == 10  # three batches, again and again
    x, y = digits(64)
    short = ((x[:8], y[:8]) for _ in range(4))
    with pytest.raises(ValueError, match="ran out of batches"):
        LRFinder(steps=10).run(model, short)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
        assert len(LRFinder(maximum=1e-3, steps=10).run(model, data).losses) == 10

    named = keras.Input((64,), name="pixels")
    model = keras.Model({"pixels": named}, keras.layers.Dense(1, name="logits")(named))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    found = LRFinder(maximum=1e-3, steps=10).run(model, {"pixels": x.astype("float64")}, y.astype("float64"))
    assert len(found.losses) == 10


def test_a_negative_loss_does_not_stop_it():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), lambda y, prediction: keras.ops.mean(prediction) - 5)
    x = np.ones((32, 1), "float32")
    found = LRFinder(1e-3, 1.0, steps=20).run(model, x, x, batch_size=8)
    assert len(found.losses) == 20 and found.losses[-1] < -5


def test_bad_arguments_name_themselves():
    for name, make in (
        ("minimum", lambda: LRFinder(minimum=0.0)),
        ("minimum", lambda: LRFinder(minimum=1.0, maximum=0.1)),
        ("maximum", lambda: LRFinder(maximum=float("inf"))),
        ("steps", lambda: LRFinder(steps=5)),
        ("steps", lambda: LRFinder(steps=50.0)),
        ("divergence", lambda: LRFinder(divergence=1.0)),
        ("batch_size", lambda: LRFinder().run(make_model("sgd"), *digits(8), batch_size=0)),
    ):
        with pytest.raises(ValueError, match=rf"{name}.*Received: .*{name}="):
            make()
    x, y = digits(64)
    with pytest.raises(ValueError, match="model must be compiled"):
        LRFinder().run(keras.Sequential([keras.layers.Dense(1)]), x, y)
    rate = WarmupCosine().as_schedule(0.1, 10)
    with pytest.raises(ValueError, match="compiled with a number"):
        LRFinder().run(make_model(keras.optimizers.SGD(rate)), x, y)
    several = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1)))
    with pytest.raises(ValueError, match="MultiOptimizer"):
        LRFinder().run(make_model(several), x, y)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    found = RangeTest(np.logspace(-4, 0, 20), np.linspace(2, 1, 20) ** 2)
    assert found.plot().get_xscale() == "log"
