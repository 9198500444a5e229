"""ResNet: the numbers of timm, transformers and keras.applications, foreign weights in and out of place, its options.

The fixtures were made by benchmarks/parity.py --fixtures from timm 1.0.31, transformers 5.23.0 and torch 2.14.1.
"""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.applications.resnet import ResNet as ApplicationsResNet
from keras.src.applications.resnet import stack_residual_blocks_v1

import recipes
from recipes.layers import DropPath
from recipes.vision import resnet as family
from recipes.weights import assign, read_state_dict
from recipes.weights.resnet_names import keras_names, keras_tensors, torch_names, transformers_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
TIMM, TIMM_D = FIXTURES / "resnet_timm.safetensors", FIXTURES / "resnet_timm_d.safetensors"
FOLDER = FIXTURES / "resnet_transformers"
FOUR = {"depths": (1, 2, 1, 1)}
CASES = {
    "timm": (TIMM, {"variant": "micro50", "widths": (4, 8, 8, 8), **FOUR}),
    "timm_d": (TIMM_D, {"variant": "50d", "block": "basic", "widths": (8, 8, 16, 16), "squeeze_excite": True, **FOUR}),
    "transformers": (FOLDER, {"variant": "18", "depths": (1, 2), "widths": (8, 16)}),
}


@pytest.fixture(autouse=True)
def micro_variants(monkeypatch):
    """timm and keras.applications have no narrower stem than 64 channels."""
    for name in ("50", "50v1"):
        monkeypatch.setitem(family.VARIANTS, f"micro{name}", {**family.VARIANTS[name], "stem_width": 64})


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "resnet_tiny.npz"))


def micro(num_classes=3, input_shape=(40, 56, 3), **arguments):
    return recipes.resnet(
        input_shape, num_classes, **{"variant": "cifar20", "depths": (1, 2), "widths": (8, 16), **arguments}
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("key", CASES)
def test_tiny_networks_match_the_reference(stored, key):
    path, arguments = CASES[key]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=path, **arguments)
    assert np.ptp(stored[key], axis=0).min() > 0.05  # the images differ
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored[key], atol=2e-5)


@pytest.mark.any_backend
def test_v1_matches_keras_applications(stored):
    def stack(x):
        x = stack_residual_blocks_v1(x, 8, 1, stride1=1, name="conv2")
        return stack_residual_blocks_v1(x, 16, 2, name="conv3")

    theirs = ApplicationsResNet(
        stack, False, True, weights=None, input_shape=(40, 56, 3), classes=3, classifier_activation=None
    )
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if len(variable.shape) == 1:
            limits = (0.5, 1.5) if variable.name in ("gamma", "moving_variance") else (-0.2, 0.2)
            variable.assign(random.uniform(*limits, variable.shape))
    tensors = {f"{layer.name}/{v.name}": np.array(v) for layer in theirs.layers for v in layer.weights}
    ours = micro(variant="micro50v1", stem="imagenet")
    assign(ours, keras_names(ours), keras_tensors(tensors))
    pixels = keras.applications.resnet.preprocess_input(stored["images"].astype("float32"))
    expected = theirs.predict(pixels, verbose=0)
    difference = np.abs(ours.predict(stored["images"], verbose=0) - expected).max() / expected.std()
    assert difference < 1e-5
    assert ours.count_params() == theirs.count_params()
    assert np.ptp(expected, axis=0).min() > 0.01


@pytest.mark.parametrize("key", CASES)
def test_every_variable_has_its_own_tensor(key):
    path, arguments = CASES[key]
    model = micro(stem="deep" if key == "timm_d" else "imagenet", **arguments)
    names = transformers_names(model) if key == "transformers" else torch_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    used = [name for name, _ in names.values()]
    assert sorted(used) == sorted(name for name in read_state_dict(path) if "num_batches" not in name)


def test_a_bare_transformers_model_leaves_the_head_random(tmp_path):
    tensors = {k.removeprefix("resnet."): v for k, v in read_state_dict(FOLDER).items() if "classifier" not in k}
    path = torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        bare = micro(weights=path, **CASES["transformers"][1])
    whole = micro(weights=FOLDER, **CASES["transformers"][1])
    for found, expected in zip(bare.weights[:-2], whole.weights[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_number_of_classes_leaves_the_head_random():
    with pytest.warns(UserWarning, match="left random"):
        model = micro(5, weights=TIMM, **CASES["timm"][1])
    assert model.output_shape == (None, 5)
    kernel = read_state_dict(TIMM)["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, kernel)


def test_weights_of_another_variant_change_nothing():
    with pytest.raises(ValueError, match="weights do not fit.*nothing was loaded"):
        micro(weights=TIMM, variant="50", **FOUR, widths=(8, 8, 16, 16))
    with pytest.raises(ValueError, match="weights do not fit.*downsample"):
        micro(weights=TIMM_D, **{**CASES["timm_d"][1], "shortcut": "convolution"})


def test_grey_images_are_repeated(stored):
    path, arguments = CASES["timm"]
    grey = micro(input_shape=(40, 56, 1), weights=path, **arguments)
    colour = micro(weights=path, **arguments)
    images = stored["images"][..., :1]
    expected = colour.predict(images.repeat(3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey.predict(images, verbose=0), expected, atol=1e-6)


def test_weights_are_remembered_when_saved(stored, tmp_path):
    path, arguments = CASES["transformers"]
    model = micro(weights=path, **arguments)
    assert model.recipe["arguments"]["stem"] == "imagenet"  # though the images are small
    recipes.save(model, tmp_path / "saved")
    again = recipes.load_model(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict(stored["images"]), model.predict(stored["images"]))


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def test_the_default_is_a_small_network_on_pixels_from_minus_one_to_one():
    model = recipes.resnet((28, 28, 1), 10)
    assert trainable(model) == 677_482
    layers = [layer.name for layer in model.layers]
    assert layers[:6] == ["image", "rescale", "stem_conv", "stem_norm", "stem_relu", "stem_pool"]
    assert layers[-3:] == ["pool", "features", "logits"]
    assert not any(isinstance(layer, DropPath) for layer in model.layers)
    pixels = model.get_layer("rescale")(np.array([[0.0], [255.0]]))
    np.testing.assert_allclose(pixels, [[-1], [1]])


def test_wide_resnet_has_the_size_of_the_paper():
    assert trainable(recipes.resnet((32, 32, 3), 10, variant="wide28x10")) == 36_479_194  # table 1: 36.5 million


def test_preactivation_leaves_the_shortcut_free():
    model = micro(block="preactivated")
    add = model.get_layer("stage1_block1_add")
    assert [tensor._keras_history.operation.name for tensor in add.input] == ["stem_conv", "stage1_block1_2_conv"]
    first, shortcut = (model.get_layer(f"stage2_block1_{name}") for name in ("1_pad", "shortcut_conv"))
    assert first.input is shortcut.input  # they share BatchNorm and ReLU
    assert [layer.name for layer in model.layers[-5:]] == ["top_norm", "top_relu", "pool", "features", "logits"]


def test_where_the_stride_is():
    v15, v1 = micro(variant="50"), micro(variant="50v1")
    for model, strides in ((v15, [1, 2, 1]), (v1, [2, 1, 1])):
        assert [model.get_layer(f"stage2_block1_{k}_conv").strides[0] for k in (1, 2, 3)] == strides
    assert v1.get_layer("stem_conv").use_bias and not v15.get_layer("stem_conv").use_bias
    assert v1.get_layer("stem_norm").epsilon == 1.001e-5 and v15.get_layer("stem_norm").epsilon == 1e-5


@pytest.mark.parametrize("block", ["basic", "bottleneck", "preactivated", "preactivated_bottleneck"])
def test_shortcuts_may_pool_odd_sizes(block):
    model = micro(input_shape=(17, 15, 3), block=block, shortcut="pool", stem="cifar")
    assert model.get_layer("stage2_block1_shortcut_pool").output.shape[1:3] == (9, 8)
    assert model.get_layer("stage2_block1_shortcut_conv").strides == (1, 1)
    assert model.get_layer("stage2_block1_add").output.shape[1:3] == (9, 8)
    assert not any(layer.name == "stage1_block1_shortcut_pool" for layer in model.layers)


def test_drop_path_grows_to_the_top():
    model = micro(drop_path=0.3, depths=(2, 2))
    assert [layer.rate for layer in model.layers if isinstance(layer, DropPath)] == pytest.approx([0.1, 0.2, 0.3])


def test_branches_start_at_zero():
    model = micro(depths=(1, 1), stem="cifar")
    for i in (1, 2):
        np.testing.assert_array_equal(model.get_layer(f"stage{i}_block1_2_norm").gamma, 0)


def test_the_deep_stem_halves_twice():
    model = micro(stem="deep", widths=(16, 32))
    shapes = [model.get_layer(f"stem_{part}").output.shape[1:] for part in ("1_relu", "2_relu", "relu", "pool")]
    assert shapes == [(20, 28, 8), (20, 28, 8), (20, 28, 16), (10, 14, 16)]
