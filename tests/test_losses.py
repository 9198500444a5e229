"""Losses and accuracy against their formula and against Keras'."""

import json

import keras
import numpy as np
import pytest

from recipes.training.losses import Accuracy, CrossEntropy, MeanSquaredError, NotAdapted

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(8, 5)).astype("float32") * 3
IDS = RANDOM.integers(0, 5, 8)
ONE_HOT = np.eye(5, dtype="float32")[IDS]
TOKEN_LOGITS = RANDOM.normal(size=(4, 6, 5)).astype("float32")
TOKENS = RANDOM.integers(0, 5, (4, 6))


def reference(probabilities, logits):
    """Mean cross-entropy in float64."""
    logits = logits.astype("float64")
    return -(probabilities * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("y", [IDS, IDS[:, None], IDS.astype("float32"), IDS.astype("uint8"), ONE_HOT])
def test_cross_entropy_of_ids_and_one_hot_is_that_of_keras(y, smoothing):
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)(ONE_HOT, LOGITS)
    found = CrossEntropy(label_smoothing=smoothing)(y, LOGITS)
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-6)
    smoothed = ONE_HOT * (1 - smoothing) + smoothing / 5
    np.testing.assert_allclose(float(found), reference(smoothed, LOGITS), rtol=1e-6)


def test_cross_entropy_of_soft_targets():
    soft = RANDOM.dirichlet(np.ones(5), size=8).astype("float32")
    np.testing.assert_allclose(float(CrossEntropy()(soft, LOGITS)), reference(soft, LOGITS), rtol=1e-6)


@pytest.mark.parametrize("y", [TOKENS, TOKENS[..., None], np.eye(5, dtype="float32")[TOKENS]])
def test_cross_entropy_of_tokens(y):
    one_hot = np.eye(5)[TOKENS]
    np.testing.assert_allclose(float(CrossEntropy()(y, TOKEN_LOGITS)), reference(one_hot, TOKEN_LOGITS), rtol=1e-6)
    each = CrossEntropy(reduction=None)(y, TOKEN_LOGITS)
    assert each.shape == (4, 6)


def test_cross_entropy_weighs_samples():
    weights = np.array([1, 0] * 4, "float32")
    found = CrossEntropy(reduction="sum")(IDS, LOGITS, sample_weight=weights)
    np.testing.assert_allclose(float(found), float(CrossEntropy(reduction="sum")(IDS[::2], LOGITS[::2])), rtol=1e-6)


def test_cross_entropy_of_large_logits_is_finite():
    logits = np.array([[1e4, -1e4, 0.0]], "float32")
    for y in ([0], [1], [[0.0, 1.0, 0.0]]):
        for smoothing in (0.0, 0.1):
            assert np.isfinite(float(CrossEntropy(label_smoothing=smoothing)(np.array(y), logits)))


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32():
    logits = keras.ops.cast(LOGITS, "bfloat16")
    found = CrossEntropy()(IDS, logits)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    exact = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
    np.testing.assert_allclose(float(found), reference(ONE_HOT, exact), rtol=1e-6)


def test_cross_entropy_keeps_large_ids():
    """Keras passes targets to a loss as float32: exact to 2 ** 24, and no model has as many tokens."""
    logits = np.zeros((1, 70_000), "float32")
    logits[0, 69_999] = 50.0
    assert float(CrossEntropy()(np.array([69_999]), logits)) < 1e-6


@pytest.mark.parametrize("jit_compile", [False, True])
def test_cross_entropy_trains_a_compiled_model_with_ids_and_with_soft_targets(jit_compile):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    model.compile("sgd", CrossEntropy(label_smoothing=0.1), metrics=[Accuracy()], jit_compile=jit_compile)
    for y in (IDS, IDS[:, None], ONE_HOT):
        first = model.evaluate(LOGITS, y, verbose=0)
        model.fit(LOGITS, y, epochs=2, verbose=0)
        assert model.evaluate(LOGITS, y, verbose=0)[0] < first[0]
    accuracies = [model.evaluate(LOGITS, y, verbose=0)[1] for y in (IDS, IDS[:, None], ONE_HOT)]
    assert len(set(accuracies)) == 1


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 1.5])
def test_cross_entropy_refuses_a_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        CrossEntropy(label_smoothing=smoothing)


@pytest.mark.parametrize(
    "y, pred, expected",
    [
        (IDS, LOGITS, np.mean(IDS == LOGITS.argmax(-1))),
        (IDS[:, None], LOGITS, np.mean(IDS == LOGITS.argmax(-1))),
        (ONE_HOT, LOGITS, np.mean(IDS == LOGITS.argmax(-1))),
        (0.6 * ONE_HOT + 0.4 * np.roll(ONE_HOT, 1, axis=1), LOGITS, np.mean(IDS == LOGITS.argmax(-1))),
        (TOKENS, TOKEN_LOGITS, np.mean(TOKENS == TOKEN_LOGITS.argmax(-1))),
    ],
)
def test_accuracy(y, pred, expected):
    accuracy = Accuracy()
    accuracy.update_state(y, pred)
    assert float(accuracy.result()) == pytest.approx(expected)
    accuracy.update_state(y, -pred)
    accuracy.reset_state()
    accuracy.update_state(y[:3], pred[:3])
    accuracy.update_state(y[3:], pred[3:])
    assert float(accuracy.result()) == pytest.approx(expected)


def test_accuracy_weighs_samples():
    accuracy = Accuracy()
    accuracy.update_state(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]), sample_weight=np.array([3.0, 1.0]))
    assert float(accuracy.result()) == pytest.approx(0.75)


def test_mean_squared_error_is_in_units_of_scale():
    y, pred = RANDOM.normal(size=(6, 2)), RANDOM.normal(size=(6, 2)).astype("float32")
    found = MeanSquaredError(scale=(2.0, 0.5))(y, pred)
    np.testing.assert_allclose(float(found), np.mean(((y - pred) / [2.0, 0.5]) ** 2), rtol=1e-5)


def test_mean_squared_error_of_one_target_takes_a_plain_vector():
    """`(batch,)` against `(batch, 1)` must not become a matrix of all differences."""
    y, pred = RANDOM.normal(size=6), RANDOM.normal(size=(6, 1)).astype("float32")
    np.testing.assert_allclose(float(MeanSquaredError()(y, pred)), np.mean((y - pred[:, 0]) ** 2), rtol=1e-5)


def test_not_adapted_refuses_to_train_and_says_what_to_do():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    model.compile("sgd", NotAdapted())
    with pytest.raises(ValueError, match="adapt=.*recipes.fit"):
        model.fit(LOGITS, IDS, verbose=0)


@pytest.mark.parametrize(
    "thing", [CrossEntropy(label_smoothing=0.2), MeanSquaredError(scale=(2.0, 3.0)), NotAdapted(), Accuracy(name="a")]
)
def test_round_trip(thing):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    assert config["registered_name"] == f"recipes>{type(thing).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(thing) and again.get_config() == thing.get_config()
