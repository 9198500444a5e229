"""CLIP: the numbers of transformers, its files in and out of place, its loss, and what it learns.

The fixture was made by benchmarks/parity.py --fixtures from transformers 5.23.0 and torch 2.14.1.
"""

import json
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import EndToken
from recipes.training.optimizer import decays
from recipes.vision import clip as family
from recipes.weights import read_state_dict
from recipes.weights.clip_names import our_tensors, transformers_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "clip_transformers"
MICRO = {
    **family.VARIANTS["tiny"],
    **{"patch_size": 8, "width": 24, "depth": 2, "text_width": 16, "text_depth": 2},
    **{"embedding_width": 12, "head_width": 8, "mlp_ratio": 2},
}


@pytest.fixture(autouse=True)
def micro_variant(monkeypatch):
    monkeypatch.setitem(family.VARIANTS, "micro", MICRO)


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "clip_tiny.npz"))


def micro(input_shape=(32, 32, 3), **arguments):
    return recipes.clip(input_shape, **{"variant": "micro", "vocabulary_size": 40, "max_length": 10, **arguments})


def write(folder, tensors, **changes):
    """Write tensors as a file and the fixture's configuration, changed, beside it."""
    config = json.loads((FOLDER / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return torch_files.write_state_dict(folder / "pytorch_model.bin", tensors)


# The reference


@pytest.mark.any_backend
def test_the_numbers_of_transformers(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = micro(weights=FOLDER)
    pairs = model.predict({"image": stored["images"], "text": stored["texts"]}, verbose=0)
    np.testing.assert_allclose(pairs[:, 0] @ pairs[:, 1].T, stored["logits_per_image"], rtol=1e-5, atol=1e-5)
    images, texts = (recipes.features(model, f"{part}_embedding") for part in ("image", "text"))
    for found, expected in (
        (images.predict(stored["images"], verbose=0), stored["image_embeds"]),
        (texts.predict(stored["texts"], verbose=0), stored["text_embeds"]),
    ):
        assert np.ptp(expected, axis=0).min() > 0.05  # the rows differ
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert model.recipe["arguments"]["end_id"] == 30 and model.recipe["arguments"]["activation"] == "quick_gelu"


def test_every_variable_has_its_own_tensor():
    model, tensors = micro(), our_tensors(read_state_dict(FOLDER))
    names = transformers_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    assert sorted(name for name, _ in names.values()) == sorted(tensors)
    assert model.count_params() == sum(np.size(tensor) for tensor in tensors.values())


def test_the_image_half_alone(tmp_path, stored):
    tensors = {k: np.array(v, "float32") for k, v in read_state_dict(FOLDER).items() if k.startswith("vis")}
    vision = json.loads((FOLDER / "config.json").read_text())["vision_config"]
    path = write(tmp_path, tensors, **vision, text_config=None)
    with pytest.warns(UserWarning, match="image half only"):
        model = micro(weights=path)
    found = recipes.features(model, "image_embedding").predict(stored["images"], verbose=0)
    np.testing.assert_allclose(found, stored["image_embeds"], atol=1e-5)


def test_positions_follow_the_size_of_the_image(stored):
    model = micro((32, 48, 3), weights=FOLDER)
    found = model.get_layer("image_position_embedding").get_weights()[0]
    same = micro(weights=FOLDER).get_layer("image_position_embedding").get_weights()[0]
    assert found.shape == (1 + 4 * 6, 24)
    np.testing.assert_array_equal(found[0], same[0])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"vision_config": {"num_attention_heads": 4}}, ["num_attention_heads=(4, 2)", "this variant has (3, 2)"]),
        ({"text_config": {"hidden_act": "relu"}}, ["hidden_act="]),
        ({"vision_config": {"layer_norm_eps": 1e-6, "num_attention_heads": 3}}, ["layer_norm_eps=(1e-06, 1e-05)"]),
    ],
)
def test_what_no_tensor_shows_is_read_from_the_configuration(tmp_path, changes, words):
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    config = json.loads((FOLDER / "config.json").read_text())
    if "layer_norm_eps" in words[0]:
        changes = {**changes, "text_config": config["text_config"]}
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError) as caught:
        micro(weights=tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_settings_that_files_say(tmp_path):
    config = json.loads((FOLDER / "config.json").read_text())
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    for part in ("text_config", "vision_config"):
        config[part] = {**config[part], "hidden_act": "gelu", "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = micro(weights=tmp_path).recipe["arguments"]
    assert said["activation"] == "gelu" and said["end_id"] is None  # 2 stands for the highest
    assert micro(weights=tmp_path, end_id=7).recipe["arguments"]["end_id"] == 7
    (tmp_path / "config.json").unlink()
    assert micro(weights=tmp_path).recipe["arguments"]["activation"] == "quick_gelu"


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="do not fit .*text_token_embedding/embeddings is"):
        micro(weights=FOLDER, vocabulary_size=41)
    with pytest.raises(ValueError, match="do not fit .*text_position_embedding"):
        micro(weights=FOLDER, max_length=9)
    tensors = {k: np.array(v, "float32") for k, v in read_state_dict(FOLDER).items()}
    del tensors["logit_scale"]
    with pytest.raises(ValueError, match=r"variables without a tensor: logit_scale/scale \(logit_scale\)"):
        micro(weights=write(tmp_path, tensors))


# The network


@pytest.mark.any_backend
def test_what_follows_the_end_of_a_text_does_not_matter():
    model = recipes.features(micro(), "text_embedding")
    texts = np.array([[5, 7, 39, 0, 0, 0, 0, 0, 0, 0]])
    other = np.array([[5, 7, 39, 1, 2, 38, 9, 8, 7, 6]])
    np.testing.assert_allclose(model(texts), model(other), atol=1e-6)
    assert np.abs(model(texts) - model(np.array([[5, 8, 39, 0, 0, 0, 0, 0, 0, 0]]))).max() > 1e-3


def test_the_first_end_counts():
    ids = np.array([[4, 9, 3, 9, 1], [3, 2, 1, 0, 3]])
    assert np.asarray(EndToken()(ids)).argmax(axis=1).tolist() == [1, 0]
    assert np.asarray(EndToken(3)(ids)).argmax(axis=1).tolist() == [2, 0]


def test_weight_decay_spares_what_is_no_matrix():
    spared = {v.path for v in micro().trainable_variables if not decays(v) and len(v.shape) != 1}
    assert spared == {
        "image_class_token/embedding",
        "image_position_embedding/embedding",
        "text_position_embedding/embedding",
        "logit_scale/scale",
    }


def test_the_scale_is_limited():
    model = micro()
    model.get_layer("logit_scale").scale.assign(9.0)
    x = {"image": np.zeros((1, 32, 32, 3)), "text": np.ones((1, 10), "int32")}
    np.testing.assert_allclose(np.linalg.norm(model(x)[:, 0], axis=-1), 100, rtol=1e-5)


def test_bfloat16_keeps_float32_embeddings():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = micro()
    assert model.output.dtype == "float32" and model.get_layer("image_embedding").compute_dtype == "float32"
    assert model.get_layer("image_block0_mlp1").compute_dtype == "bfloat16"


def test_the_image_tower_takes_a_head_and_shows_its_attention(stored):
    model = micro(weights=FOLDER)
    tower = recipes.features(model, "image_norm")
    classifier = recipes.replace_head(tower, 3)
    assert classifier.predict(stored["images"], verbose=0).shape == (4, 3)
    maps = recipes.explain(recipes.features(model, "image_embedding"), stored["images"])
    assert maps.shape == (4, 32, 32) and maps.max() == 1


# The loss


def pairs(random, n=5, width=4):
    return random.normal(size=(n, 2, width)).astype("float32")


def cross_entropy(logits, target):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -(target * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))).sum(axis=1)


@pytest.mark.any_backend
@pytest.mark.parametrize("ids", [np.arange(5), np.array([[3], [1], [3], [0], [3]])])
def test_loss(ids):
    x = pairs(np.random.default_rng(0))
    logits = x[:, 0] @ x[:, 1].T
    alike = (ids.reshape(-1, 1) == ids.reshape(1, -1)).astype("float32")
    target = alike / alike.sum(axis=1, keepdims=True)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    found = recipes.ContrastiveLoss(reduction="none")(ids, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    accuracy = recipes.ContrastiveAccuracy()
    accuracy.update_state(ids, x)
    assert float(accuracy.result()) == pytest.approx(alike[np.arange(5), logits.argmax(axis=1)].mean())


def test_collapsed_embeddings_cost_the_logarithm_of_the_batch():
    x = np.ones((8, 2, 4), "float32")
    assert float(recipes.ContrastiveLoss()(np.arange(8), x)) == pytest.approx(np.log(8))


# Training


@pytest.mark.thorough
def test_recipes_fit_learns_which_text_belongs_to_which_image():
    random = np.random.default_rng(0)
    colours = random.integers(0, 4, 64)
    images = np.zeros((64, 8, 8, 3), "uint8") + random.integers(0, 60, (64, 8, 8, 3), "uint8")
    images[np.arange(64), :, :, colours % 3] += np.where(colours == 3, 0, 150).astype("uint8")[:, None, None]
    texts = np.zeros((64, 4), "int32")
    texts[:, 0], texts[:, 1] = colours + 1, 9  # the colour, the end
    model = recipes.clip((8, 8, 3), width=32, depth=1, patch_size=4, vocabulary_size=10, max_length=4, learning_rate=3e-3)
    data = {"image": images, "text": texts}, colours
    history = recipes.fit(model, data, epochs=15, batch_size=16, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    images = recipes.features(model, "image_embedding").predict(images, verbose=0)
    names = recipes.features(model, "text_embedding").predict(np.array([[c + 1, 9, 0, 0] for c in range(4)]), verbose=0)
    assert ((images @ names.T).argmax(axis=1) == colours).mean() > 0.9


def test_ids_beyond_the_vocabulary_are_refused():
    x = {"image": np.zeros((4, 32, 32, 3)), "text": np.full((4, 10), 40)}
    with pytest.raises(ValueError, match=r"x\['text'\] .*40"):
        recipes.fit(micro(), (x, np.arange(4)), epochs=1, verbose=0)


def test_predict_says_what_to_use_instead():
    x = {"image": np.zeros((4, 32, 32, 3)), "text": np.ones((4, 10), "int32")}
    with pytest.raises(ValueError, match="model.predict"):
        recipes.predict(micro(), x)
