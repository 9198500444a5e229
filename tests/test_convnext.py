"""ConvNeXt: the numbers of timm, torchvision and transformers, foreign weights in and out of place, its options.

The fixtures were made by benchmarks/parity.py --fixtures from timm 1.0.31, torchvision 0.29.1, transformers 5.23.0 and
torch 2.14.1.
"""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import DropPath, LayerScale
from recipes.training.optimizer import decays
from recipes.vision.convnext import VARIANTS
from recipes.weights import read_state_dict
from recipes.weights.convnext_names import LAYOUTS, torch_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
PATHS = {
    "timm": FIXTURES / "convnext_timm.safetensors",
    "timm_conv": FIXTURES / "convnext_timm_conv.safetensors",  # the MLP as 1x1 convolutions, as convnext_atto has it
    "torchvision": FIXTURES / "convnext_torchvision.pth",
    "transformers": FIXTURES / "convnext_transformers",
}
EVERY_PATH = pytest.mark.parametrize("key", PATHS)


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "convnext_tiny.npz"))


def micro(num_classes=3, input_shape=(40, 56, 3), **arguments):
    return recipes.convnext(input_shape, num_classes, **{"depths": (1, 2, 1, 1), "widths": (8, 8, 16, 16), **arguments})


@pytest.mark.any_backend
@EVERY_PATH
def test_tiny_networks_match_the_reference(stored, key):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=PATHS[key])
    assert np.ptp(stored[key], axis=0).min() > 0.1  # the images differ
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored[key], atol=2e-5)


@EVERY_PATH
def test_every_variable_has_its_own_tensor(key):
    model, tensors = micro(patch_size=4), read_state_dict(PATHS[key])
    names = torch_names(model, tensors)
    assert set(names) == {variable.path for variable in model.weights}
    assert sorted(name for name, _ in names.values()) == sorted(tensors)
    assert model.count_params() == sum(np.size(tensor) for tensor in tensors.values())


def test_the_layout_of_the_authors(stored, tmp_path):
    """Their files differ from timm's in names alone."""
    tensors = read_state_dict(PATHS["timm"])
    ours = torch_names(micro(patch_size=4), tensors)
    theirs = torch_names(micro(patch_size=4), ["downsample_layers.0.0.weight"])
    renamed = {theirs[path][0]: tensors[name] for path, (name, _) in ours.items()}
    assert "stages.1.1.pwconv2.weight" in renamed and "downsample_layers.1.1.bias" in renamed and "norm.bias" in renamed
    model = micro(weights=torch_files.write_state_dict(tmp_path / "convnext.pth", renamed))
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored["timm"], atol=2e-5)


def test_layouts_name_the_same_layers():
    assert len({frozenset(layers) for layers in LAYOUTS.values()}) == 1


def test_a_bare_transformers_model_leaves_the_head_random(tmp_path):
    tensors = read_state_dict(PATHS["transformers"])
    tensors = {k.removeprefix("convnext."): v for k, v in tensors.items() if "classifier" not in k}
    path = torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        bare = micro(weights=path)
    whole = micro(weights=PATHS["transformers"])
    for found, expected in zip(bare.weights[:-2], whole.weights[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_number_of_classes_leaves_the_head_random():
    with pytest.warns(UserWarning, match="left random"):
        model = micro(5, weights=PATHS["timm"])
    assert model.output_shape == (None, 5)
    with pytest.warns(UserWarning, match="left random"):
        micro(3, weights=PATHS["torchvision"], task="regress")


def test_weights_of_another_variant_change_nothing():
    with pytest.raises(ValueError, match="weights do not fit.*nothing was loaded"):
        micro(weights=PATHS["timm"], widths=(8, 8, 16, 24))
    with pytest.raises(ValueError, match="weights do not fit.*gamma"):
        micro(weights=PATHS["timm"], layer_scale=0)


def test_weights_are_remembered_when_saved(stored, tmp_path):
    model = micro(weights=PATHS["timm"])
    assert model.recipe["arguments"]["patch_size"] == 4  # though the images are small
    recipes.save(model, tmp_path / "saved")
    again = recipes.load_model(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict(stored["images"]), model.predict(stored["images"]))


def test_grey_images_are_repeated(stored):
    images = stored["images"][..., :1]
    grey = micro(input_shape=(40, 56, 1), weights=PATHS["timm"]).predict(images, verbose=0)
    colour = micro(weights=PATHS["timm"]).predict(images.repeat(3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey, colour, atol=1e-6)


@pytest.mark.parametrize("side, patch_size", [(8, 1), (15, 1), (16, 2), (64, 2), (65, 4)])
def test_the_patches_follow_the_size_of_the_image(side, patch_size):
    model = micro(input_shape=(side, side, 3), depths=(1, 1), widths=(8, 16))
    assert model.get_layer("stem_conv").strides == (patch_size, patch_size)


def test_drop_path_grows_to_the_top():
    model = micro(drop_path=0.4)
    assert [layer.rate for layer in model.layers if isinstance(layer, DropPath)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    model = micro()
    assert [layer.rate for layer in model.layers if isinstance(layer, DropPath)][-1] == VARIANTS["atto"]["drop_path"]


def test_factors_of_the_branches_start_small_and_do_not_decay():
    model = micro()
    scales = [layer.scale for layer in model.layers if isinstance(layer, LayerScale)]
    assert len(scales) == 5
    for scale in scales:
        np.testing.assert_allclose(scale, 1e-6)
        assert not decays(scale)
    assert decays(model.get_layer("stage1_block1_depthwise").kernel)
    assert not any(isinstance(layer, LayerScale) for layer in micro(layer_scale=0).layers)


def test_norms_and_gelu_are_the_paper_s():
    model = micro()
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.LayerNormalization)]
    assert {layer.epsilon for layer in norms} == {1e-6} and len(norms) == 10
    gelu = model.get_layer("stage1_block1_mlp1").activation(keras.ops.convert_to_tensor([1.0]))
    np.testing.assert_allclose(gelu, [0.8413447], atol=1e-6)  # exact; the tanh approximation gives .8411920
