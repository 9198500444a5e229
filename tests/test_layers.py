"""Every layer of `recipes.layers` passes every check of `tests/harness/layers.py`."""

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import FusedBatchNorm
from tests.cases import LAYERS
from tests.harness import layers


@pytest.mark.any_backend
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
@pytest.mark.parametrize("check", layers.ANY_BACKEND, ids=lambda check: check.__name__)
def test_layer(check, case):
    check(case)


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
@pytest.mark.parametrize("check", layers.TENSORFLOW, ids=lambda check: check.__name__)
def test_layer_on_tensorflow(check, case):
    check(case)


def test_every_layer_has_a_row():
    exported = {getattr(recipes.layers, name) for name in recipes.layers.__all__}
    assert {case.layer for case in LAYERS} == exported


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_norm_is_that_of_keras(dtype):
    x = keras.random.normal((4, 5, 6, 8), 3.0, 2.0, seed=0)
    ours, theirs = FusedBatchNorm(momentum=0.7, dtype=dtype), keras.layers.BatchNormalization(momentum=0.7, dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 0.04
    for training in (True, True, False):
        np.testing.assert_allclose(*(numpy(layer(x, training=training)) for layer in (ours, theirs)), atol=tolerance)
    for weight, other in zip(ours.weights, theirs.weights, strict=True):
        assert weight.name == other.name
        np.testing.assert_allclose(numpy(weight), numpy(other), atol=tolerance)
    ours.trainable = False
    before = numpy(ours.moving_mean)
    ours(x, training=True)
    assert np.array_equal(numpy(ours.moving_mean), before), "a frozen layer moved its statistics"


def numpy(value):
    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))
