"""ViT: the numbers of timm and transformers, positions for another size, foreign weights in and out of place.

The fixtures were made by benchmarks/parity.py --fixtures from timm 1.0.31, transformers 5.23.0 and torch 2.14.1.
"""

import json
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import SelfAttention, SinCosPosition
from recipes.training.optimizer import decays
from recipes.vision import vit as family
from recipes.weights import UnsafeFileError, read_state_dict
from recipes.weights.vit_names import cubic_weights, resize_positions, timm_tensors, torch_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
TOKEN, AVERAGE = FIXTURES / "vit_timm_token.safetensors", FIXTURES / "vit_timm_average.safetensors"
FOLDER = FIXTURES / "vit_transformers"
MICRO = {**family.VARIANTS["base"], "width": 24, "depth": 2, "head_width": 8, "mlp_ratio": 2, "patch_size": 8}


@pytest.fixture(autouse=True)
def micro_variant(monkeypatch):
    monkeypatch.setitem(family.VARIANTS, "micro", MICRO)


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "vit_tiny.npz"))


def micro(num_classes=3, input_shape=(32, 32, 3), **arguments):
    return recipes.vit(input_shape, num_classes, **{"variant": "micro", **arguments})


def make_attention(x, **arguments):
    layer = SelfAttention(**arguments)
    layer.build(x.shape)
    return layer


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "key, path, arguments",
    [("token", TOKEN, {}), ("average", AVERAGE, {"pool": "average"}), ("transformers", FOLDER, {})],
)
def test_tiny_networks_match_the_reference(stored, key, path, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=path, **arguments)
    assert np.ptp(stored[key], axis=0).min() > 0.05  # the images differ
    np.testing.assert_allclose(model.predict(stored["small"], verbose=0), stored[key], atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize("key, path, pool", [("token", TOKEN, "token"), ("average", AVERAGE, "average")])
def test_positions_follow_the_size_of_the_image(stored, key, path, pool):
    model = micro(input_shape=(48, 40, 3), weights=path, pool=pool)
    np.testing.assert_allclose(model.predict(stored["large"], verbose=0), stored[f"{key}_large"], atol=1e-5)


def test_positions_are_resized_as_by_pillow():
    image = pytest.importorskip("PIL.Image")
    line = np.random.default_rng(0).normal(size=(7, 7)).astype("float32")
    for grid in ((14, 14), (4, 9), (7, 7)):
        expected = np.asarray(image.fromarray(line).resize(grid[::-1], image.BICUBIC))
        found = resize_positions(np.concatenate([[[9.0]], line.reshape(49, 1)]), grid, prefix=1)
        assert found[0, 0] == 9
        np.testing.assert_allclose(found[1:].reshape(grid), expected, atol=1e-5)
    np.testing.assert_allclose(cubic_weights(5, 5), np.eye(5), atol=1e-7)


@pytest.mark.parametrize("path, pool", [(TOKEN, "token"), (AVERAGE, "average"), (FOLDER, "token")])
def test_every_variable_has_its_own_tensor(path, pool):
    model = micro(pool=pool)
    names = torch_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    used = [name for name, _ in names.values()]
    assert sorted(used) == sorted(timm_tensors(read_state_dict(path)))
    assert model.count_params() == sum(np.size(tensor) for tensor in read_state_dict(path).values())


def test_names_of_a_bare_and_of_a_newer_transformers_model(stored, tmp_path):
    tensors = {name.removeprefix("vit."): tensor for name, tensor in read_state_dict(FOLDER).items()}
    assert tensors.keys() != read_state_dict(FOLDER).keys()
    for i in range(2):
        for old, new in {
            "attention.attention.query": "attention.q_proj",
            "attention.attention.key": "attention.k_proj",
            "attention.attention.value": "attention.v_proj",
            "attention.output.dense": "attention.o_proj",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
            "layernorm_before": "layernorm_before",
            "layernorm_after": "layernorm_after",
        }.items():
            for kind in ("weight", "bias"):
                tensors[f"layers.{i}.{new}.{kind}"] = tensors.pop(f"encoder.layer.{i}.{old}.{kind}")
    tensors["pooler.dense.weight"] = np.zeros((24, 24), "float32")
    path = torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    model = micro(weights=path, epsilon=1e-3)
    np.testing.assert_allclose(model.predict(stored["small"], verbose=0), stored["transformers"], atol=1e-5)
    shutil.copy(FOLDER / "config.json", tmp_path)
    again = micro(weights=str(tmp_path))
    np.testing.assert_array_equal(again.predict(stored["small"]), model.predict(stored["small"]))


def test_epsilon_of_the_files_is_remembered():
    model = micro(weights=FOLDER)
    assert model.get_layer("block1_norm2").epsilon == model.get_layer("norm").epsilon == 1e-3
    arguments = json.loads(json.dumps(model.recipe["arguments"]))
    assert arguments["epsilon"] == 1e-3 and "weights" not in arguments
    assert recipes.vit(**arguments).get_layer("norm").epsilon == 1e-3
    assert micro(weights=FOLDER / "model.safetensors").get_layer("norm").epsilon == 1e-3  # config.json beside it
    assert micro(weights=TOKEN).get_layer("norm").epsilon == micro().get_layer("norm").epsilon == 1e-6


def test_a_class_token_without_a_position(stored, tmp_path):
    tensors = {name: np.array(tensor, "float32") for name, tensor in read_state_dict(TOKEN).items()}
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    tensors |= {f"blocks.{i}.ls{n}.gamma": np.full_like(tensors["norm.weight"], 0.5) for i in blocks for n in (1, 2)}
    tensors["pos_embed"][:, 0] = 0
    with_zero = micro(layer_scale=1e-6, weights=torch_files.write_state_dict(tmp_path / "zero.pth", tensors))
    tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    without = micro(layer_scale=1e-6, weights=torch_files.write_state_dict(tmp_path / "deit3.pth", tensors))
    np.testing.assert_array_equal(*(model.predict(stored["small"], verbose=0) for model in (without, with_zero)))


def test_another_number_of_classes_leaves_the_head_random():
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        model = micro(5, weights=TOKEN)
    kernel = read_state_dict(TOKEN)["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("patch").get_weights()[0], kernel)
    assert model.output_shape == (None, 5)
    with pytest.warns(UserWarning, match="left random"):
        micro(3, weights=FOLDER, task="regress")


def test_grey_images_are_repeated(stored):
    images = stored["small"][..., :1]
    grey = micro(input_shape=(32, 32, 1), weights=TOKEN).predict(images, verbose=0)
    colour = micro(weights=TOKEN).predict(images.repeat(3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey, colour, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"weights": TOKEN, "pool": "average"}, ["do not fit", "fc_norm", "cls_token"]),
        ({"weights": TOKEN, "depth": 3}, ["do not fit", "blocks.2.norm1"]),
        ({"weights": TOKEN, "depth": 1}, ["do not fit", "tensors without a variable", "blocks.1.attn.proj"]),
        ({"weights": TOKEN, "width": 32}, ["do not fit", "other shapes", "patch/kernel"]),
        ({"weights": TOKEN, "patch_size": 16}, ["do not fit", "patch/kernel"]),
        ({"weights": TOKEN, "positions": "sincos"}, ["do not fit", "pos_embed"]),
        ({"weights": TOKEN, "variant": "compact"}, ["do not fit", "patch_embed"]),
        ({"weights": TOKEN, "input_shape": (32, 32, 4)}, ["3 channels", "alpha"]),
        ({"weights": "absent.safetensors"}, ["absent.safetensors", "no such file"]),
        ({"weights": FIXTURES}, ["model.safetensors"]),
        ({"weights": 7}, ["weights", "path"]),
        ({"input_shape": (30, 44, 3)}, ["patch_size=8", "height 24 or 32", "width 40 or 48"]),
        ({"input_shape": (8, 12, 3), "patch_size": 16}, ["height 16", "width 16"]),
        ({"variant": "compact", "patch_size": 6}, ["patch_size", "power of 2"]),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as caught:
        micro(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_attention_heads": 4}, ["num_attention_heads=4", "this variant has 3"]),
        ({"hidden_act": "relu"}, ["hidden_act='relu'"]),
        ({"layer_norm_eps": "small"}, ["layer_norm_eps", "small"]),
    ],
)
def test_what_no_tensor_shows_is_read_from_the_configuration(tmp_path, changes, words):
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    config = json.loads((FOLDER / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError) as caught:
        micro(weights=tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[1, 2]", "JSON object"),
        ('{"a": ' * 2000, "too deep"),
        ('{"a": "' + "b" * (1 << 20) + '"}', "longer than"),
    ],
    ids=["empty", "list", "deep", "long"],
)
def test_broken_configurations_are_refused(tmp_path, text, words):
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsafeFileError, match=f"config.json.*{words}"):
        micro(weights=tmp_path)


def test_files_that_mean_something_twice_or_cannot_be_resized(tmp_path):
    tensors = {name: np.array(tensor, "float32") for name, tensor in read_state_dict(TOKEN).items()}
    twice = {**tensors, "vit.layernorm.weight": tensors["norm.weight"]}
    with pytest.raises(ValueError, match="two tensors mean norm.weight"):
        micro(weights=torch_files.write_state_dict(tmp_path / "twice.pth", twice))
    odd = {**tensors, "pos_embed": tensors["pos_embed"][:, :-1]}
    with pytest.raises(ValueError, match="15 positions are no square grid"):
        micro(weights=torch_files.write_state_dict(tmp_path / "odd.pth", odd))


# parameters of timm 1.0.31 at 224 pixels and 1000 classes
@pytest.mark.parametrize(
    "variant, patch_size, parameters",
    [("tiny", 16, 5_717_416), ("small", 32, 22_878_952)],
)
def test_parameter_count_of_the_reference(variant, patch_size, parameters):
    assert recipes.vit((224, 224, 3), 1000, variant=variant, patch_size=patch_size).count_params() == parameters


@pytest.mark.parametrize(
    "input_shape, grid",
    [((8, 8, 1), 8), ((28, 28, 1), 7), ((32, 32, 3), 8), ((64, 64, 3), 8), ((96, 96, 3), 12), ((224, 224, 3), 14)],
)
def test_compact_has_a_sensible_number_of_tokens(input_shape, grid):
    model = recipes.vit(input_shape, 10, depth=1)
    assert model.get_layer("stem_conv").output.shape[1:3] == (grid, grid)


def test_compact_takes_any_size():
    model = recipes.vit((45, 37, 2), 4, depth=1, patch_size=4)
    assert model.get_layer("stem_conv").output.shape[1:3] == (12, 10)


def test_drop_path_grows_to_the_top():
    model = micro(depth=5, drop_path=0.2)
    rates = [layer.rate for layer in model.layers if "drop_path" in layer.name]
    np.testing.assert_allclose(rates, np.repeat([0.05, 0.1, 0.15, 0.2], 2))


def test_weight_decay_spares_positions_and_the_class_token():
    spared = {v.path for v in micro().trainable_variables if not decays(v) and len(v.shape) > 1}
    assert spared == {"class_token/embedding", "position_embedding/embedding"}


def test_lora_reaches_attention():
    model = recipes.add_lora(micro(), rank=2)
    assert any("block0_attention/qkv/lora" in v.path for v in model.trainable_variables)
    assert any("block1_mlp2/lora" in v.path for v in model.trainable_variables)


@pytest.mark.any_backend
def test_attention_is_that_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")
    ours = make_attention(x, heads=3, stddev=0.3)
    theirs = keras.layers.MultiHeadAttention(3, 4)
    theirs.build(x.shape, x.shape)
    kernel, bias, out, out_bias = ours.get_weights()
    parts = [part for i in range(3) for part in (kernel.reshape(12, 3, 3, 4)[:, i], bias.reshape(3, 3, 4)[i])]
    theirs.set_weights([*parts, out.reshape(3, 4, 12), out_bias])
    np.testing.assert_allclose(ours(x), theirs(x, x), atol=1e-6)
    causal = make_attention(x, heads=3, causal=True)
    causal.set_weights(ours.get_weights())
    np.testing.assert_allclose(causal(x), theirs(x, x, use_causal_mask=True), atol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("locality", [False, True])
def test_causal_attention_sees_nothing_that_comes_later(locality):
    x = np.random.default_rng(0).normal(size=(1, 6, 8)).astype("float32")
    layer = make_attention(x, heads=2, causal=True, locality=locality, stddev=0.3)
    changed = x.copy()
    changed[:, 4:] += 1
    before, after = (keras.ops.convert_to_numpy(layer(v)) for v in (x, changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 5:] - after[:, 5:]).max() > 1e-3


@pytest.mark.any_backend
def test_locality_hides_a_token_from_itself_and_learns_its_temperature():
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    layer = make_attention(x, heads=2, locality=True, stddev=0.3)
    layer.scale.assign([0.7, 1.9])
    qkv = (x @ layer.qkv.get_weights()[0]).reshape(2, 6, 3, 2, 4)
    scores = np.einsum("bnhd,bmhd->bhnm", qkv[:, :, 0], qkv[:, :, 1]) * np.array([0.7, 1.9])[:, None, None]
    scores[:, :, np.arange(6), np.arange(6)] = -np.inf
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = np.einsum("bhnm,bmhd->bnhd", weights, qkv[:, :, 2]).reshape(2, 6, 8)
    np.testing.assert_allclose(layer(x), mixed @ layer.mix.get_weights()[0], atol=1e-5)
    usual = make_attention(x, heads=2, locality=True)
    np.testing.assert_allclose(usual.scale, [0.5, 0.5])  # 1 / sqrt(4)


def test_sincos_positions():
    waves = np.asarray(SinCosPosition((2, 3))(np.zeros((1, 6, 8), "float32")))[0]
    np.testing.assert_allclose(waves[4, 0::2], [np.sin(1), np.cos(1), np.sin(1), np.cos(1)], atol=1e-6)  # row 1, column 1
    np.testing.assert_allclose(waves[5, 0::2], [np.sin(2), np.cos(2), np.sin(1), np.cos(1)], atol=1e-6)
    np.testing.assert_allclose(waves[5, 1::2], [2e-4, 1, 1e-4, 1], atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        SinCosPosition((2, 3))(np.zeros((1, 6, 6)))
    with pytest.raises(ValueError, match="grid"):
        SinCosPosition((2, 2))(np.zeros((1, 6, 8)))


def test_layer_scale_of_deit3():
    """DeiT III's rate of a branch: learned factors that start at 1e-6, under timm's names."""
    model = recipes.vit((8, 8, 3), 3, depth=1, training="deit3")
    scale = model.get_layer("block0_scale2")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scale.scale), 1e-6)
    assert torch_names(model)["block0_scale2/scale"] == ("blocks.0.ls2.gamma", None)
    assert not [layer for layer in recipes.vit((8, 8, 3), 3, depth=1).layers if "_scale" in layer.name]
