"""GPT: the numbers of transformers, its files in and out of place, its ways of training, and attention by parts.

The fixture was made by benchmarks/parity.py --fixtures from transformers 5.24.0 and torch 2.14.1.
"""

import json
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import SelfAttention
from recipes.layers.attention import rotate
from recipes.training.optimizer import decays
from recipes.weights import read_state_dict
from recipes.weights.gpt_names import our_tensors, transformers_names
from tests import torch_files
from tests.harness.gradients import gradients

FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "gpt_transformers"


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "gpt_tiny.npz"))


def micro(**arguments):
    sizes = {"vocabulary_size": 30, "max_length": 12, "width": 16, "heads": 2, "depth": 2}
    return recipes.gpt(**{"variant": "gpt2", **sizes, **arguments})


# The reference


@pytest.mark.any_backend
def test_the_numbers_of_transformers(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=FOLDER)
    logits = model.predict(stored["ids"], verbose=0)
    assert np.ptp(stored["logits"], axis=0).min() > 0.05  # the texts differ
    np.testing.assert_allclose(logits, stored["logits"], rtol=1e-4, atol=1e-4)
    assert recipes.generate(model, stored["ids"], max_new_tokens=5, temperature=0) == stored["written"].tolist()
    assert recipes.generate(model, stored["ids"], max_new_tokens=5, beams=3) == stored["beams"].tolist()


def test_every_variable_has_its_own_tensor():
    model, tensors = micro(), our_tensors(read_state_dict(FOLDER))
    names = transformers_names(model)
    assert set(names) == {variable.path for variable in model.weights if "seed" not in variable.path}
    assert sorted(name for name, _ in names.values()) == sorted(set(tensors) - {"lm_head.weight"})


def test_files_in_other_clothes(tmp_path, stored):
    """`GPT2Model` has no prefix; older files bring the mask and the head, which is the tokens' matrix."""
    tensors = {k.removeprefix("transformer."): np.array(v, "float32") for k, v in read_state_dict(FOLDER).items()}
    tensors |= {"h.0.attn.bias": np.ones((1, 1, 12, 12), "float32"), "h.0.attn.masked_bias": np.float32(-1e4)}
    tensors["lm_head.weight"] = tensors["wte.weight"]
    path = torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    found = micro(weights=path, max_length=8).predict(stored["ids"], verbose=0)  # the first of the positions
    np.testing.assert_allclose(found, stored["logits"], rtol=1e-4, atol=1e-4)
    torch_files.write_state_dict(path, {**tensors, "lm_head.weight": tensors["wte.weight"] + 1})
    with pytest.raises(ValueError, match="head is another matrix"):
        micro(weights=path)
    with pytest.raises(ValueError, match="do not fit .*position_embedding"):
        micro(weights=FOLDER, max_length=13)


@pytest.mark.parametrize("changes", [{"n_head": 4}, {"activation_function": "relu"}, {"layer_norm_epsilon": 1e-6}])
def test_what_no_tensor_shows_is_read_from_the_configuration(tmp_path, changes):
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    config = json.loads((FOLDER / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.*this model has"):
        micro(weights=tmp_path)


# The network


def test_initial_weights_and_what_decays():
    model = micro(width=64)
    for path, stddev in {
        "token_embedding/embeddings": 0.02,
        "block0_attention/qkv/kernel": 0.02,
        "block0_attention/output/kernel": 0.01,  # .02 / sqrt(2 * 2)
        "block1_mlp1/kernel": 0.02,
        "block1_mlp2/kernel": 0.01,
    }.items():
        (variable,) = [v for v in model.weights if v.path == path]
        assert np.std(keras.ops.convert_to_numpy(variable)) == pytest.approx(stddev, rel=0.1), path
    spared = {v.path for v in model.trainable_variables if not decays(v) and len(v.shape) > 1}
    assert spared == {"position_embedding/embedding"}


def test_no_biases_and_an_id_that_pads():
    model = micro(variant="character", use_bias=None)
    assert not [v.path for v in model.weights if v.path.endswith(("bias", "beta"))]
    assert model.recipe["training"]["padding_id"] == 0
    assert micro().recipe["training"]["padding_id"] is None
    assert micro(padding_id=3).recipe["training"]["padding_id"] == 3


def test_texts_longer_than_the_model():
    with pytest.raises(ValueError, match="sequence length 13 exceeds max_length 12; truncate or rebuild"):
        recipes.fit(micro(positions="rotary"), np.ones((4, 13), "int32"), epochs=1, verbose=0)


def test_recipes_fit_learns_to_count():
    ids = (np.arange(8)[None] + np.arange(64)[:, None]) % 9 + 1
    model = recipes.gpt(vocabulary_size=10, max_length=12, width=32, heads=2, depth=1, dropout=0.0, learning_rate=1e-2)
    recipes.fit(model, ids, epochs=12, batch_size=32, verbose=0)
    assert recipes.evaluate(model, ids)["accuracy"] > 0.9
    assert recipes.generate(model, [[2, 3, 4], [8]], max_new_tokens=3, temperature=0) == [[5, 6, 7], [9, 1, 2]]


# Attention


def attention(**arguments):
    layer = SelfAttention(2, stddev=0.5, **arguments)
    layer.build((None, None, 8))
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.any_backend
@pytest.mark.parametrize("causal, padded", [(True, False), (True, True), (False, True)])
def test_chunks_change_nothing(causal, padded):
    """Neither the outputs nor the gradients, by the weights and by what comes in."""
    x = keras.Variable(np.random.default_rng(0).normal(size=(3, 10, 8)), dtype="float32")
    mask = np.arange(10) < np.array([[10], [4], [0]]) if padded else None

    def run(**arguments):
        layer = attention(causal=causal, **arguments)
        variables = [*layer.trainable_variables, x]
        found = gradients(lambda: keras.ops.sum(keras.ops.square(layer(x.value, mask))), variables)
        return [keras.ops.convert_to_numpy(layer(x.value, mask)), *found]

    for whole, parts in zip(run(rotary=True), run(rotary=True, chunk=4), strict=True):
        assert np.isfinite(whole).all()
        np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())


def test_nobody_sees_padding():
    random = np.random.default_rng(0)
    x, other = random.normal(size=(2, 3, 10, 8)).astype("float32")
    mask = np.arange(10) < np.array([[10], [4], [0]])
    layer = attention()
    found, changed = (np.array(layer(np.where(mask[..., None], x, y), mask)) for y in (x, other))
    np.testing.assert_allclose(found[mask], changed[mask], atol=1e-5)
    np.testing.assert_allclose(found[1:2, :4], layer(x[1:2, :4]), atol=1e-5)
    assert np.isfinite(found).all()


@pytest.mark.any_backend
def test_rotation_depends_on_distances():
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8)).astype("float32")

    def product(i, j):
        return float(keras.ops.sum(rotate(query, i) * rotate(key, j)))

    assert product(3, 1) == pytest.approx(product(40, 38), rel=1e-3)
    assert product(0, 0) == pytest.approx(float((query * key).sum()), rel=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 0.01
    x = np.random.default_rng(0).normal(size=(1, 6, 2, 8)).astype("float32")
    np.testing.assert_allclose(rotate(x, 0)[:, 4:], rotate(x[:, 4:], 4), atol=1e-6)


def test_one_layer_does_not_know_where_it_is_if_rotary():
    """Moved to the right behind tokens that cannot be seen, outputs stay."""
    x = np.random.default_rng(0).normal(size=(1, 6, 8)).astype("float32")
    layer = attention(rotary=True)
    moved = np.concatenate([np.zeros((1, 5, 8), "float32"), x], axis=1)
    mask = np.arange(11)[None] >= 5
    np.testing.assert_allclose(layer(moved, mask)[:, 5:], layer(x), atol=1e-4)
