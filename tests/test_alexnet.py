"""AlexNet: the numbers of torchvision, foreign weights in and out of place, and what the paper has besides.

The fixtures were made by benchmarks/parity.py --fixtures from torchvision 0.29.1 and torch 2.14.1.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

import recipes
from recipes.layers import LocalResponseNorm
from recipes.weights import read_state_dict
from recipes.weights.alexnet_names import torch_names

FIXTURES = Path(__file__).parent / "fixtures"
TORCHVISION = FIXTURES / "alexnet_torchvision.pth"


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "alexnet_tiny.npz"))


def micro(num_classes=3, input_shape=(95, 127, 3), **arguments):
    defaults = {"variant": "torchvision", "widths": (4, 6, 8, 8, 6), "hidden": 16}
    return recipes.alexnet(input_shape, num_classes, **{**defaults, **arguments})


@pytest.mark.any_backend
def test_a_tiny_network_matches_the_reference(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=TORCHVISION)
    assert np.ptp(stored["torchvision"], axis=0).min() > 0.1  # the images differ
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored["torchvision"], atol=1e-5)


def test_every_variable_has_its_own_tensor():
    model, tensors = micro(), read_state_dict(TORCHVISION)
    names = torch_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    assert sorted(name for name, _ in names.values()) == sorted(tensors)
    assert model.count_params() == sum(np.size(tensor) for tensor in tensors.values())


def test_another_number_of_classes_leaves_the_head_random():
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        model = micro(5, weights=TORCHVISION)
    assert model.output_shape == (None, 5)
    with pytest.warns(UserWarning, match="left random"):
        micro(weights=TORCHVISION, task="regress")


def test_weights_of_another_variant_change_nothing():
    with pytest.raises(ValueError, match="weights do not fit.*nothing was loaded"):
        micro(weights=TORCHVISION, variant="2012")


def test_weights_are_remembered_when_saved(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 95, 95, 3), dtype="uint8")
    model = micro(input_shape=(95, 95, 3), weights=TORCHVISION)
    recipes.save(model, tmp_path / "saved")
    np.testing.assert_array_equal(recipes.load_model(tmp_path / "saved").predict(images), model.predict(images))


def test_the_places_of_the_paper():
    """Figure 2: 55, 27 and 13 pixels a side; two halves; dropout after the dense layers."""
    model = micro(input_shape=(224, 224, 3), variant="2012")
    assert [model.get_layer(f"conv{k}").output.shape[1] for k in range(1, 6)] == [55, 27, 13, 13, 13]
    assert [model.get_layer(f"conv{k}").groups for k in range(1, 6)] == [1, 2, 1, 2, 2]
    assert sum(isinstance(layer, LocalResponseNorm) for layer in model.layers) == 2
    assert not any(layer.name == "pool" for layer in model.layers)  # 6x6 as it is
    order = [layer.name for layer in model.layers[-7:]]
    assert order == ["flatten", "dense1", "dense1_dropout", "dense2", "dense2_dropout", "features", "logits"]
    order = [layer.name for layer in micro().layers[-7:]]
    assert order == ["flatten", "dense1_dropout", "dense1", "dense2_dropout", "dense2", "features", "logits"]


def test_images_too_small_for_the_weights_are_refused():
    with pytest.raises(ValueError, match="input_shape must be at least 95 pixels"):
        micro(input_shape=(64, 64, 3), weights=TORCHVISION)


@pytest.mark.parametrize("side", [16, 28, 32, 64])
def test_small_images_get_the_small_stem(side):
    model = recipes.alexnet((side, side, 1), 10, widths=(8, 8, 8, 8, 8), hidden=16)
    assert model.get_layer("conv1").kernel_size == (5, 5) and model.get_layer("conv1").strides == (1, 1)
    assert np.isfinite(model.predict(np.zeros((1, side, side, 1)), verbose=0)).all()


@pytest.mark.any_backend
def test_local_response_norm_is_the_formula():
    x = np.random.default_rng(0).normal(size=(2, 3, 7)).astype("float32")
    found = LocalResponseNorm(size=3, alpha=0.5, beta=0.75, bias=2.0)(x)
    expected = np.empty_like(x)
    for i in range(7):
        energy = np.square(x[..., max(0, i - 1) : i + 2]).sum(axis=-1)
        expected[..., i] = x[..., i] / (2.0 + 0.5 * energy) ** 0.75
    np.testing.assert_allclose(found, expected, rtol=1e-5)
