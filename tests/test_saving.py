"""`recipes.save` and `recipes.load_model`."""

import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_wine

import recipes

pytestmark = pytest.mark.any_backend
X, Y = load_wine(return_X_y=True)


@pytest.fixture
def model():
    model = recipes.mlp((13,), 3, hidden=(16,))
    recipes.fit(model, (X, Y), epochs=2, verbose=0)
    return model


def test_round_trip_keeps_outputs_optimizer_recipe_and_training(model, tmp_path):
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
        ("{", "folder that recipes.save wrote"),
        ("[]", "must name a builder"),
        ('{"builder": "os.system"}', "must name a builder"),
        ('{"builder": "fit"}', "must name a builder"),
        (
            '{"builder": "mlp", "arguments": {"input_shape": [13], "num_classes": 3, "colour": 1}}',
            "does not fit the builder",
        ),
        ('{"builder": "mlp", "arguments": {"input_shape": [13], "num_classes": 1}}', "num_classes"),
    ],
)
def test_damaged_recipes_are_refused(model, tmp_path, content, message):
    recipes.save(model, tmp_path / "wine")
    (tmp_path / "wine" / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        recipes.load_model(tmp_path / "wine")


def test_weights_of_another_model_or_cut_off_are_refused(model, tmp_path):
    recipes.save(model, tmp_path / "wine")
    weights = tmp_path / "wine" / "model.weights.h5"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        recipes.load_model(tmp_path / "wine")
    weights.write_bytes(whole)
    recipe = json.loads((tmp_path / "wine" / "recipe.json").read_text())
    recipe["arguments"]["hidden"] = [32]
    (tmp_path / "wine" / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match="belongs to another model"):
        recipes.load_model(tmp_path / "wine")


def test_a_stranger_is_saved_whole_or_not_at_all(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="must end in .keras"):
        recipes.save(model, tmp_path / "folder")
    with pytest.raises(ValueError, match="folder that recipes.save wrote"):
        recipes.load_model(tmp_path / "nowhere")
