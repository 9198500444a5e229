"""`ExponentialMovingAverage` against a loop in numpy, and when the averages stand in the model."""

import copy

import keras
import numpy as np
import pytest

import recipes
from recipes.callbacks import EMAWeights, ExponentialMovingAverage, WarmupCosine

pytestmark = pytest.mark.any_backend

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class Record(keras.callbacks.Callback):
    """Keeps the weights after every execution. Reads through `self.model`, which JAX needs."""

    def on_train_begin(self, logs=None):
        self.start, self.values = self.model.get_weights(), []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append([w.copy() for w in self.model.get_weights()])


def make_model(**compile_arguments):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(5), keras.layers.BatchNormalization(momentum=0.8), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), recipes.CrossEntropy(), metrics=[recipes.Accuracy()], **compile_arguments)
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    return model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **arguments)


def reference(start, values, decay, ramp=True, counts=None):
    """The documented formula, in float64; `counts`: steps of each execution."""
    averages, t = [w.astype("float64") for w in start], 0
    for weights, count in zip(values, counts or [1] * len(values), strict=True):
        d = (min(decay, (1 + t) / (10 + t)) if ramp else decay) ** count
        averages, t = [a + (1 - d) * (w - a) for a, w in zip(averages, weights, strict=True)], t + count
    return averages


def assert_weights(found, expected, tolerance=1e-6):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("decay, ramp", [(0.9, True), (0.9, False), (0.3, True)])
def test_is_the_loop_in_numpy_batch_statistics_included(decay, ramp):
    model, record, average = make_model(), Record(), ExponentialMovingAverage(decay, ramp)
    fit(model, record, average)
    expected = reference(record.start, record.values, decay, ramp)
    assert average.steps == 10
    assert_weights(model.get_weights(), expected)
    names = [v.path.split("/")[-1] for v in model.weights]
    for name in ("moving_mean", "moving_variance"):
        assert not np.allclose(model.get_weights()[names.index(name)], record.values[-1][names.index(name)], atol=1e-4)


def test_restore_exchanges_averages_and_weights():
    model, record, average = make_model(), Record(), ExponentialMovingAverage(0.9)
    fit(model, record, average)
    averaged = model.get_weights()
    average.restore()
    assert_weights(model.get_weights(), record.values[-1], 0)
    average.restore()
    assert_weights(model.get_weights(), averaged, 0)
    with pytest.raises(ValueError, match="restore needs a fit"):
        ExponentialMovingAverage().restore()


def test_training_is_not_disturbed_and_validation_sees_the_averages():
    plain, averaged, record = make_model(), make_model(), Record()
    fit(plain, validation_data=(X, Y))
    average = ExponentialMovingAverage(0.9)
    history = fit(averaged, record, average, validation_data=(X, Y))
    assert history.history["val_loss"][-1] == pytest.approx(averaged.evaluate(X, Y, verbose=0)[0], abs=1e-6)
    average.restore()
    assert_weights(averaged.get_weights(), plain.get_weights(), 1e-7)  # the averages came and went between the epochs
    first = reference(record.start, record.values[:5], 0.9)
    probe = make_model()
    probe.set_weights([w.astype("float32") for w in first])
    assert history.history["val_loss"][0] == pytest.approx(probe.evaluate(X, Y, verbose=0)[0], abs=1e-5)


def test_what_was_validated_is_what_early_stopping_keeps():
    model = make_model()
    stopper = keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)
    history = fit(model, ExponentialMovingAverage(0.9), stopper, epochs=4, validation_data=(X, Y))
    best = min(history.history["val_loss"])
    if history.history["val_loss"].index(best) < 3:
        assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(best, abs=1e-6)
    weights = stopper.best_weights
    model.set_weights(weights)
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("arguments, every, counts", [({"steps_per_execution": 2}, 1, [2, 2, 1]), ({}, 2, [2, 2, 1])])
def test_several_steps_at_once_look_back_as_long(arguments, every, counts):
    model, record, average = make_model(**arguments), Record(), ExponentialMovingAverage(0.9, every=every)
    fit(model, record, average)
    values = record.values if arguments else [v for i, v in enumerate(record.values) if i % 5 in (1, 3, 4)]
    assert average.steps == 10
    assert_weights(model.get_weights(), reference(record.start, values, 0.9, counts=counts * 2))


def test_every_fit_begins_anew_and_integers_are_left_alone():
    model, average = make_model(), ExponentialMovingAverage(0.9)
    fit(model, average)
    start, record = model.get_weights(), Record()
    fit(model, record, average, epochs=1)
    assert_weights(record.start, start, 0)
    assert_weights(model.get_weights(), reference(start, record.values, 0.9))


def test_no_epochs_and_outside_of_fit_change_nothing():
    model, average = make_model(), ExponentialMovingAverage(0.9)
    before = model.get_weights()
    fit(model, average, epochs=0)
    assert_weights(model.get_weights(), before, 0)
    fit(model, average)
    after = model.get_weights()
    model.evaluate(X, Y, verbose=0, callbacks=[average])
    assert_weights(model.get_weights(), after, 0)


def test_in_recipes_fit_with_a_schedule():
    model = recipes.resnet((8, 8, 1), 2, depths=(1,), widths=(4,))
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)).astype("uint8")
    record = Record()
    history = recipes.fit(
        model, (images, np.arange(32) % 2), epochs=2, ema=0.9, validation=0.25, verbose=0, callbacks=[record]
    )
    assert len(history.history["learning_rate"]) == 2
    assert_weights(model.get_weights(), reference(record.start, record.values, 0.9))
    with pytest.raises(ValueError, match="ema must be"):
        recipes.fit(model, (images, np.arange(32) % 2), epochs=1, ema=2)


def test_copies_before_a_fit_and_refuses_bad_arguments():
    average = copy.deepcopy(ExponentialMovingAverage(0.99, every=3))  # keras-tuner copies callbacks
    assert average.decay == 0.99 and average.every == 3
    fit(make_model(), WarmupCosine(), average, epochs=1)
    for argument in ({"decay": 1.0}, {"decay": 0}, {"decay": "a"}, {"every": 0}, {"every": 1.5}):
        with pytest.raises(ValueError, match=next(iter(argument))):
            ExponentialMovingAverage(**argument)


def test_a_second_copy_leaves_training_alone_and_goes_on_in_another_fit():
    plain, model, record, average = make_model(), make_model(), Record(), EMAWeights(0.9)
    with pytest.raises(ValueError, match="needs a fit"):
        average.get_weights()
    fit(plain, validation_data=(X, Y))
    history = fit(model, record, average, validation_data=(X, Y)).history
    assert_weights(model.get_weights(), plain.get_weights(), 1e-7)
    assert history["val_loss"][-1] == pytest.approx(plain.evaluate(X, Y, verbose=0)[0], abs=1e-6)
    start, values = record.start, record.values
    assert_weights(average.get_weights(), reference(start, values, 0.9))

    fit(model, record, average, epochs=1)
    expected = reference(start, values + record.values, 0.9)
    assert_weights(average.get_weights(), expected)
    last = model.get_weights()
    with average.applied():
        assert_weights(model.get_weights(), expected)
    assert_weights(model.get_weights(), last, 0)
