"""`recipes.save` and `recipes.load_model`."""

import concurrent.futures
import json
import os

import keras
import numpy as np
import pytest
from sklearn.datasets import load_wine

import recipes
from recipes.weights.manifest import write_manifest

pytestmark = pytest.mark.any_backend
X, Y = load_wine(return_X_y=True)


@pytest.fixture
def model():
    return recipes.mlp((13,), 3, hidden=(16,), adapt=X)


def test_round_trip_keeps_outputs_optimizer_recipe_and_training(model, tmp_path):
    recipes.fit(model, (X, Y), epochs=2, verbose=0)
    recipes.save(model, tmp_path / "wine", class_names=["a", "b", "c"])
    again = recipes.load_model(tmp_path / "wine")
    assert np.array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))
    assert again.recipe == model.recipe and again.recipe["class_names"] == ["a", "b", "c"]
    for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        assert np.array_equal(a, b), a.path
    for m in (model, again):
        for layer in m.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0  # the two models draw different masks
        m.fit(X, Y, batch_size=64, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_frozen_layers_stay_frozen(tmp_path):
    model = recipes.resnet((8, 8, 1), 3, depths=(1,), widths=(4,))
    recipes.freeze(model)
    recipes.save(model, tmp_path / "net")
    again = recipes.load_model(tmp_path / "net")
    assert [v.path for v in again.trainable_variables] == [v.path for v in model.trainable_variables]


def test_saving_replaces_our_own_folder_and_no_other(model, tmp_path):
    recipes.save(model, tmp_path / "wine")
    recipes.save(model, tmp_path / "wine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wine"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="not a folder that recipes.save wrote"):
        recipes.save(model, tmp_path / "other")
    assert (tmp_path / "other" / "letter.txt").read_text() == "keep me"


def test_a_failed_save_leaves_the_old_model(model, tmp_path, monkeypatch):
    recipes.save(model, tmp_path / "wine")
    monkeypatch.setattr(keras.Model, "save_weights", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        recipes.save(model, tmp_path / "wine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wine"]
    recipes.load_model(tmp_path / "wine")


def test_keras_files_need_trust(model, tmp_path):
    path = tmp_path / "wine.keras"
    recipes.save(model, path)
    with pytest.raises(ValueError, match="trusted=True"):
        recipes.load_model(path)
    again = recipes.load_model(path, trusted=True)
    assert np.array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"builder": "os.system"}', "must name a builder"),
        ('{"builder": "fit"}', "must name a builder"),
        (
            '{"builder": "mlp", "arguments": {"input_shape": [13], "num_classes": 3, "colour": 1}}',
            "does not fit the builder",
        ),
        ('{"builder": "mlp", "arguments": {"input_shape": [13], "num_classes": 1}}', "num_classes"),
    ],
)
def test_recipes_that_no_builder_takes_are_refused(model, tmp_path, content, message):
    recipes.save(model, tmp_path / "wine")
    (tmp_path / "wine" / "recipe.json").write_text(content)
    with pytest.raises(recipes.UnsafeFileError, match="recipe.json: it has .* bytes|its sha256"):
        recipes.load_model(tmp_path / "wine")
    write_manifest(tmp_path / "wine", {})  # whoever changes the recipe can do that, too
    with pytest.raises(ValueError, match=message):
        recipes.load_model(tmp_path / "wine")


def test_weights_of_another_model_or_cut_off_are_refused(model, tmp_path):
    recipes.save(model, tmp_path / "wine")
    weights = tmp_path / "wine" / "model.weights.h5"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(recipes.UnsafeFileError, match="model.weights.h5: it has .* bytes"):
        recipes.load_model(tmp_path / "wine")
    weights.write_bytes(whole)
    recipe = json.loads((tmp_path / "wine" / "recipe.json").read_text())
    recipe["arguments"]["hidden"] = [8]
    (tmp_path / "wine" / "recipe.json").write_text(json.dumps(recipe))
    write_manifest(tmp_path / "wine", {})
    with pytest.raises(recipes.UnsafeFileError, match="belongs to another model"):
        recipes.load_model(tmp_path / "wine")
    recipe["arguments"]["hidden"] = [4000]
    (tmp_path / "wine" / "recipe.json").write_text(json.dumps(recipe))
    write_manifest(tmp_path / "wine", {})
    with pytest.raises(recipes.UnsafeFileError, match="need more variables than the file has"):
        recipes.load_model(tmp_path / "wine")


def test_every_changed_byte_of_a_folder_is_refused_or_changes_nothing(tmp_path):
    model = recipes.mlp((2,), 2, hidden=(2,), adapt=np.array([[0.0, 1.0], [2.0, 3.0]]))
    recipes.save(model, tmp_path / "net")
    accepted = 0
    for name, step in (("recipe.json", 29), ("manifest.json", 11), ("model.weights.h5", 997)):
        path = tmp_path / "net" / name
        whole = bytearray(path.read_bytes())
        for position in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[position] ^= (0x01, 0x80, 0xFF)[position % 3]
            path.write_bytes(changed)
            try:
                again = recipes.load_model(tmp_path / "net")
            except recipes.UnsafeFileError:
                continue
            accepted += 1
            assert name == "manifest.json" and again.recipe == model.recipe
            assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
        path.write_bytes(whole)
    assert accepted < 20  # in the versions, and where JSON has spaces
    recipes.load_model(tmp_path / "net")


def test_a_model_that_is_not_finite_is_not_saved(model, tmp_path):
    recipes.save(model, tmp_path / "wine")
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match="not finite, logits/kernel first"):
        recipes.save(model, tmp_path / "wine")
    assert np.all(np.isfinite(recipes.load_model(tmp_path / "wine").get_layer("logits").get_weights()[0]))


def test_a_save_that_was_cut_off_leaves_a_whole_model(model, tmp_path, monkeypatch):
    """The two names change one after the other: at worst the new model is not there, and the old one stands aside."""
    recipes.save(model, tmp_path / "wine")
    rename, calls = os.rename, []

    def cut_off(*names):
        calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(*names)

    monkeypatch.setattr(os, "rename", cut_off)
    with pytest.raises(KeyboardInterrupt):
        recipes.save(model, tmp_path / "wine")
    monkeypatch.undo()
    assert not (tmp_path / "wine").exists()
    with pytest.warns(UserWarning, match="a save was interrupted"):
        again = recipes.load_model(tmp_path / "wine")
    assert np.array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))
    recipes.save(model, tmp_path / "wine")
    recipes.load_model(tmp_path / "wine")


def test_two_writers_leave_one_whole_model(tmp_path):
    models = [recipes.mlp((4,), 3, hidden=(n,)) for n in (4, 5)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda i: recipes.save(models[i % 2], tmp_path / "net"), range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    again = recipes.load_model(tmp_path / "net")
    wanted = models[again.recipe["arguments"]["hidden"][0] - 4]
    assert all(np.array_equal(a, b) for a, b in zip(wanted.get_weights(), again.get_weights(), strict=True))


def test_a_stranger_is_saved_whole_or_not_at_all(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="must end in .keras"):
        recipes.save(model, tmp_path / "folder")
    with pytest.raises(ValueError, match="folder that recipes.save wrote"):
        recipes.load_model(tmp_path / "nowhere")
