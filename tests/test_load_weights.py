"""`recipes.load_weights`: every file that can give a model its weights, and a model that stays as it is if one cannot."""

import json
import shutil
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import recipes
from recipes.weights.places import digest
from tests import hostile_files, onnx_files
from tests import torch_files as t

FIXTURES = Path(__file__).parent / "fixtures"
DATA = np.random.default_rng(0).normal(2, 3, size=(16, 4))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained model's stand-in, and the folder with its files."""
    folder = tmp_path_factory.mktemp("made")
    model = build(adapt=DATA)
    tensors = {v.path: np.asarray(keras.ops.convert_to_numpy(v)) for v in model.weights}
    recipes.save(model, folder / "saved")
    recipes.save(model, folder / "whole.keras")
    model.save_weights(folder / "keras.weights.h5")
    model.save(folder / "legacy.h5")
    hostile_files.write_safetensors(folder / "net.safetensors", tensors)
    t.write_state_dict(folder / "net.pth", tensors)
    onnx_files.write_onnx(folder / "net.onnx", tensors)
    names = list(tensors)
    (folder / "split").mkdir()
    for shard, inside in (("a", names[:3]), ("b", names[3:])):
        hostile_files.write_safetensors(folder / "split" / f"{shard}.safetensors", {name: tensors[name] for name in inside})
    places = {name: ("a" if name in names[:3] else "b") + ".safetensors" for name in names}
    (folder / "split" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return model, folder


def build(classes=3, **arguments):
    return recipes.mlp((4,), classes, hidden=(5,), **arguments)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


FILES = ["saved", "whole.keras", "keras.weights.h5", "legacy.h5", "net.safetensors", "net.pth", "net.onnx", "split"]


@pytest.mark.any_backend
def test_every_file_gives_the_weights_and_nothing_else(made):
    model, folder = made
    other = build()
    state = [np.asarray(v) for v in other.optimizer.variables]
    for name in FILES:
        other.set_weights([np.zeros_like(array) for array in other.get_weights()])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert recipes.load_weights(other, folder / name) == []
        assert same(model, other), name
    assert all(np.array_equal(a, b) for a, b in zip(state, other.optimizer.variables, strict=False))
    assert other.evaluate(DATA, np.zeros(16), verbose=0)  # its statistics came with the weights
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_another_model_is_refused_and_stays(made):
    other = build(classes=5)
    before = other.get_weights()
    for name in FILES:
        with pytest.raises(
            recipes.UnsafeFileError, match=r"does not fit the model 'mlp'. 2 other shapes: logits/kernel is \(5, 5\)"
        ) as caught:
            recipes.load_weights(other, made[1] / name)
        assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))
        assert caught.value.path and caught.value.rule and caught.value.remedy
    assert recipes.load_weights(other, made[1] / "saved", keep="logits") == ["logits/kernel", "logits/bias"]
    after = other.get_weights()
    assert np.array_equal(after[0], made[0].get_weights()[0]) and np.array_equal(after[-1], before[-1])
    with pytest.raises(ValueError, match="keep must name layers"):
        recipes.load_weights(other, made[1] / "saved", keep="head")


def test_sha256(made, tmp_path):
    model, folder = made
    other = build()
    for name in ("net.safetensors", "net.pth", "net.onnx", "keras.weights.h5"):
        wanted = digest(folder / name)
        recipes.load_weights(other, folder / name, sha256=wanted.upper())
        changed = bytearray((folder / name).read_bytes())
        changed[len(changed) // 2] ^= 1
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(recipes.UnsafeFileError, match="its sha256 is"):
            recipes.load_weights(other, tmp_path / name, sha256=wanted)
    recipes.load_weights(other, folder / "saved", sha256=digest(folder / "saved" / "manifest.json"))
    with pytest.raises(recipes.UnsafeFileError, match="its sha256 is"):
        recipes.load_weights(other, folder / "saved", sha256=digest(folder / "saved" / "recipe.json"))
    shards = {name: digest(folder / "split" / name) for name in ("a.safetensors", "b.safetensors")}
    recipes.load_weights(other, folder / "split", sha256=shards)
    with pytest.raises(recipes.UnsafeFileError, match="its sha256 is"):
        recipes.load_weights(other, folder / "split", sha256={**shards, "b.safetensors": shards["a.safetensors"]})
    for wrong, path in (("abc", "net.pth"), ({"a.safetensors": "0" * 64}, "split"), (3, "saved")):
        with pytest.raises(ValueError, match="sha256 must be"):
            recipes.load_weights(other, folder / path, sha256=wrong)
    assert same(model, other)


@pytest.mark.filterwarnings("ignore:.*arrays become")
def test_types(made, tmp_path):
    """Other floating point types are cast, with a word; whole numbers are not."""
    model, other = made[0], build()
    tensors = {v.path: np.asarray(keras.ops.convert_to_numpy(v)) for v in model.weights}
    doubles = {name: array.astype("float64") for name, array in tensors.items()}
    with pytest.warns(UserWarning, match="7 arrays become the model's types: .* is float64"):
        recipes.load_weights(other, t.write_state_dict(tmp_path / "d.pth", doubles))
    assert same(model, other)
    for wrong, message in (
        (np.arange(3), "1 other types: logits/bias is float32, logits/bias int64"),
        (np.float64([1, 2, 1e300]), "not finite in float32"),
    ):
        with pytest.raises(recipes.UnsafeFileError, match=message):
            recipes.load_weights(other, t.write_state_dict(tmp_path / "w.pth", {**doubles, "logits/bias": wrong}))
    assert same(model, other)


@pytest.mark.any_backend
def test_models_of_keras_itself(tmp_path):
    """Layers within layers, variables of a model, a count of whole numbers, and statistics that a layer prepares."""
    inner = [keras.Input((4,)), keras.layers.Normalization(name="normal"), keras.layers.Dense(3, name="dense")]
    model = keras.Sequential(
        [keras.Input((4,)), keras.Sequential(inner, name="inner"), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )
    model.get_layer("inner").get_layer("normal").adapt(DATA)
    model.compile("adam", "mse")
    model.save_weights(tmp_path / "net.weights.h5")
    wanted = model(DATA)
    other = keras.models.clone_model(model)
    assert recipes.load_weights(other, tmp_path / "net.weights.h5") == []
    np.testing.assert_array_equal(other(DATA), wanted)
    with h5py.File(tmp_path / "net.weights.h5", "a") as file:
        file["layers/dense/vars/2"] = np.zeros(2, "f4")
    with pytest.raises(recipes.UnsafeFileError, match="1 arrays without a variable: 'layers/dense/vars/2'"):
        recipes.load_weights(other, tmp_path / "net.weights.h5")


def test_names_that_do_not_tell_variables_apart(tmp_path):
    halves = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="dense")]) for _ in range(2)]
    for half in halves:
        half.layers[0].kernel._path = "dense/kernel"
    inputs = keras.Input((4,))
    model = keras.Model(inputs, halves[1](halves[0](inputs)))
    assert len({v.path for v in model.weights}) < 4
    model.save_weights(tmp_path / "net.weights.h5")
    wanted = model.get_weights()
    model.set_weights([np.zeros_like(array) for array in wanted])
    assert recipes.load_weights(model, tmp_path / "net.weights.h5") == []
    assert all(np.array_equal(a, b) for a, b in zip(wanted, model.get_weights(), strict=True))
    hostile_files.write_safetensors(tmp_path / "net.safetensors", {v.path: np.asarray(v) for v in model.weights})
    with pytest.raises(recipes.UnsafeFileError):
        recipes.load_weights(model, tmp_path / "net.safetensors")


def test_files_of_other_libraries_go_through_the_builder():
    """The head of another number of classes is named, not left random in silence."""
    arguments = {
        "vocabulary_size": 30,
        "max_length": 12,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
        "epsilon": 1e-3,
    }
    model = recipes.bert(3, **arguments, pool="pooler", normalize=False)
    assert recipes.load_weights(model, FIXTURES / "bert_classify") == []
    honest = recipes.bert(weights=FIXTURES / "bert_classify")
    assert same(model, honest)
    other = recipes.bert(7, **arguments)
    before = other.get_weights()
    with pytest.raises(recipes.UnsafeFileError, match="no weights that fit 2 variables: logits/bias, logits/kernel"):
        recipes.load_weights(other, FIXTURES / "bert_classify")
    with pytest.raises(recipes.UnsafeFileError, match="do not fit the model"):
        recipes.load_weights(other, FIXTURES / "vit_transformers")
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))
    assert recipes.load_weights(other, FIXTURES / "bert_classify", keep="logits") == ["logits/bias", "logits/kernel"]
    assert np.array_equal(other.get_weights()[0], honest.get_weights()[0])


def test_what_is_no_path(made, tmp_path):
    with pytest.raises(ValueError, match="path must be the path"):
        recipes.load_weights(made[0], 3)
    with pytest.raises(recipes.UnsafeFileError, match="no such file"):
        recipes.load_weights(made[0], tmp_path / "absent.h5")
    shutil.copytree(made[1] / "saved", tmp_path / "half")
    (tmp_path / "half" / "recipe.json").unlink()
    with pytest.raises(recipes.UnsafeFileError, match="it has no recipe.json"):
        recipes.load_weights(made[0], tmp_path / "half")
