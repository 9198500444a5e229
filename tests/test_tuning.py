"""`recipes.tune` and `recipes.hypermodel`, on scikit-learn's wine and small networks."""

import functools
import random

import keras
import keras_tuner
import numpy as np
import pytest

import recipes
from recipes.callbacks import WarmupCosine

WINE = recipes.data.load("wine")


def small(hp):
    return {"hidden": (8,), "learning_rate": hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")}


def tune(data=WINE, builder=recipes.mlp, **arguments):
    return recipes.tune(builder, data, **{"space": small, "trials": 2, "epochs": 3, "verbose": 0, **arguments})


@functools.cache
def two_trials():
    return tune()


def scores(found):
    return [trial.score for _, trial in sorted(found.tuner.oracle.trials.items())]


@pytest.mark.any_backend
def test_returns_the_best_trial_trained(tmp_path):
    found = two_trials()
    measured = found.model.evaluate(*WINE.validation, verbose=0, return_dict=True)
    assert max(scores(found)) == pytest.approx(measured["accuracy"])
    assert found.history.history["val_loss"][-1] == pytest.approx(measured["loss"], rel=1e-5)
    assert found.history.epoch == [0, 1, 2]
    assert list(found.hyperparameters) == ["learning_rate"]
    arguments = found.model.recipe["arguments"]
    assert arguments["learning_rate"] == found.hyperparameters["learning_rate"]
    assert found.model.recipe["class_names"] == list(WINE.info.class_names)

    x = WINE.test[0]
    expected = found.model.predict(x, verbose=0)
    recipes.save(found.model, tmp_path / "folder")
    recipes.save(found.model, tmp_path / "model.keras")
    for loaded in (
        recipes.load_model(tmp_path / "folder"),
        recipes.load_model(tmp_path / "model.keras", trusted=True),
    ):
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


def test_one_trial_is_one_recipes_fit():
    found = tune(trials=1, seed=3)
    random.seed(3)
    model = recipes.mlp((13,), 3, **{k: found.model.recipe["arguments"][k] for k in ("hidden", "learning_rate")})
    history = recipes.fit(model, WINE, epochs=3, seed=3, verbose=0)
    np.testing.assert_allclose(history.history["loss"], found.history.history["loss"], rtol=1e-6)
    for ours, theirs in zip(model.weights, found.model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_goes_on_in_the_same_directory(tmp_path, capsys):
    whole = two_trials()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if self.model.recipe["arguments"]["learning_rate"] == second:
                raise KeyboardInterrupt

    second = sorted(whole.tuner.oracle.trials.items())[1][1].hyperparameters.values["learning_rate"]
    with pytest.raises(KeyboardInterrupt):
        tune(directory=tmp_path / "search", callbacks=[Stop()])
    capsys.readouterr()
    found = tune(directory=tmp_path / "search")
    assert capsys.readouterr().out == ""
    assert scores(found) == scores(whole) and found.hyperparameters == whole.hyperparameters
    trained = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=trained.append)
    again = tune(directory=tmp_path / "search", callbacks=[watch])
    assert not trained and again.hyperparameters == found.hyperparameters

    with pytest.raises(ValueError, match="directory=.*epochs was 3, is 4.*overwrite=True"):
        tune(directory=tmp_path / "search", epochs=4)
    with pytest.raises(ValueError, match="directory must be empty"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").touch()
        tune(directory=tmp_path / "mine")
    assert len(scores(tune(trials=1, epochs=1, directory=tmp_path / "search", overwrite=True))) == 1


@pytest.mark.any_backend
def test_hyperband_spends_the_budget_and_goes_on_along_the_schedule(tmp_path):
    found = tune(tuner="hyperband", trials=2, epochs=4, directory=tmp_path)
    trials = [trial.hyperparameters.values for _, trial in sorted(found.tuner.oracle.trials.items())]
    spans = [(t["tuner/initial_epoch"], t["tuner/epochs"]) for t in trials]
    assert spans == [(0, 2), (0, 2), (2, 4), (0, 4)]  # two brackets, which share 2 * 4 epochs: 2 * 2 + 2 and 4
    assert sum(end - start for start, end in spans) <= 2 * 4 + 2
    third = found.tuner.oracle.trials["0002"]
    parent = found.tuner.oracle.trials[third.hyperparameters.values["tuner/trial_id"]]
    assert parent.score == max(found.tuner.oracle.trials[i].score for i in ("0000", "0001"))

    peak, steps = third.hyperparameters.values["learning_rate"], 8  # 124 examples in batches of 16
    rates = _logs(found, "0002")["learning_rate"]
    for epoch, rate in enumerate(rates):
        total = steps * (2 if epoch < 2 else 4)  # each trial ends its own curve
        assert rate == pytest.approx(peak * WarmupCosine().fraction(steps * (epoch + 1) - 1, total), rel=1e-6)
    # The weights and the moments went on too, and epoch 2 has the order of epoch 2
    assert _logs(found, "0002")["loss"][:2] == _logs(found, parent.trial_id)["loss"]
    assert found.tuner.load_model(third).optimizer.iterations.numpy() == 4 * steps


def _logs(found, trial_id):
    return recipes.tuning._logs(found.tuner, trial_id)


def test_bayesian():
    found = tune(tuner="bayesian", trials=4, epochs=1)  # three at random before the model of the scores chooses
    assert len(scores(found)) == 4 and np.isfinite(scores(found)).all()


@pytest.mark.thorough
def test_regression_with_categories_and_a_fraction():
    rng = np.random.default_rng(0)
    x = {"numeric": rng.normal(size=(80, 2)), "categories": rng.integers(0, 4, size=(80, 1))}
    y = 100 + 10 * x["numeric"][:, 0] + 5 * x["categories"][:, 0]
    found = tune((x, y), task="regress", validation=0.25, trials=1, tuner="hyperband")
    assert found.model.recipe["arguments"]["categories"] == [4]
    assert found.tuner.oracle.objective.name == "val_mae" and found.tuner.oracle.objective.direction == "min"
    assert found.model.output_shape == (None, 1)


def test_a_builder_of_the_user():
    def mine(input_shape, num_classes, *, width=4):
        layers = [keras.Input(input_shape), keras.layers.Dense(width), keras.layers.Dense(num_classes)]
        model = keras.Sequential(layers)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    with pytest.warns(UserWarning, match="did not come from a builder"):
        found = tune(WINE, builder=mine, space=lambda hp: {"width": hp.Int("width", 2, 4)}, trials=1, epochs=1)
    assert found.model.layers[0].units == found.hyperparameters["width"]
    assert scores(found) == found.history.history["val_loss"]


def test_soft_targets_and_given_validation():
    x, y = WINE.train
    found = tune((x, np.eye(3)[y]), validation=WINE.validation, trials=1, epochs=1, objective="val_loss")
    assert found.model.output_shape == (None, 3) and scores(found) == found.history.history["val_loss"]


def test_a_dataset():
    batches = recipes.data.Batches(*WINE.train, 32)
    arguments = {"trials": 1, "epochs": 1, "adapt": WINE.train[0]}
    with pytest.raises(ValueError, match="input_shape and num_classes must be given"):
        tune(batches, **arguments)
    with pytest.raises(ValueError, match="validation must be data"):
        tune(batches, input_shape=(13,), num_classes=3, **arguments)
    held = recipes.data.Batches(*WINE.validation, 32, shuffle=False)
    found = tune(batches, validation=held, input_shape=(13,), num_classes=3, **arguments)
    assert scores(found) == [pytest.approx(found.history.history["val_accuracy"][-1])]


def test_callbacks_that_restore_weights_are_scored_with_them():
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    found = tune(trials=1, epochs=30, objective="val_loss", callbacks=[stop], learning_rate=0.05)
    assert found.hyperparameters == {"learning_rate": 0.05}  # not searched
    history = found.history.history["val_loss"]
    assert len(history) < 30 and history[-1] > min(history)
    assert scores(found) == [pytest.approx(min(history), rel=1e-5)]
    assert found.model.evaluate(*WINE.validation, verbose=0)[0] == pytest.approx(min(history), rel=1e-5)
    assert stop.model is None  # each trial had a copy


def test_a_trial_that_diverges_fails_alone():
    def space(hp):
        return {"hidden": (8,), "learning_rate": hp.Choice("learning_rate", [1e-2, 1e38])}

    found = tune(space=space, trials=2)
    assert found.hyperparameters == {"learning_rate": 1e-2}
    assert sorted(t.status for t in found.tuner.oracle.trials.values()) == ["COMPLETED", "FAILED"]
    with pytest.raises(RuntimeError, match="No trial came to its end(.|\n)*is not finite"):
        tune(space=lambda hp: {"learning_rate": hp.Choice("learning_rate", [1e38])}, trials=1)


def test_global_state_reaches_every_trial_and_stays(capsys):
    keras.config.set_dtype_policy("mixed_bfloat16")
    state = random.getstate()
    found = tune(trials=1, epochs=1)
    assert found.model.get_layer("block1_dense").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "mixed_bfloat16" and random.getstate() == state
    assert capsys.readouterr().out == ""


@pytest.mark.any_backend
def test_hypermodel_serves_any_tuner(tmp_path):
    models = recipes.hypermodel(recipes.mlp, (13,), 3, space=small, dropout=0.0)
    search = keras_tuner.RandomSearch(models, objective="val_loss", max_trials=1, directory=tmp_path, project_name="wine")
    x, y = WINE.train
    search.search(x, y, validation_data=WINE.validation, epochs=2, verbose=0)
    (model,) = search.get_best_models()
    assert np.isfinite(search.oracle.get_best_trials()[0].score)
    assert model.get_layer("standardize").adapted
    assert recipes.hypermodel(recipes.mlp, (13,), 3).build(keras_tuner.HyperParameters()).count_params() > 0


@pytest.mark.thorough
def test_a_builder_of_token_ids():
    ids = np.random.default_rng(0).integers(1, 20, (60, 6))
    sizes = {"vocabulary_size": 20, "max_length": 6, "width": 64, "depth": 1}
    found = recipes.tune(recipes.bert, (ids, (ids[:, 0] > 9).astype(int)), trials=1, epochs=1, verbose=0, **sizes)
    assert found.model.output_shape == (None, 2) and "dropout" in found.hyperparameters


def test_every_space_holds_arguments_of_its_builder():
    families = [name.removesuffix("_space") for name in recipes.__all__ if name.endswith("_space")]
    assert "mlp" in families
    for family in families:
        recipes.hypermodel(getattr(recipes, family), None, None)  # compares the names, and builds nothing


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"trials": 0}, "trials must be an integer >= 1"),
        ({"epochs": 2.5}, "epochs must be an integer"),
        ({"seed": -1}, "seed must be"),
        ({"verbose": 3}, "verbose must be one of"),
        ({"tuner": "grid"}, "tuner must be one of 'random'"),
        ({"objective": "val_acuracy"}, "objective must be one of 'val_loss', 'val_accuracy'"),
        ({"units": 3}, "fixed must hold arguments of mlp.*Received: units"),
        ({"space": lambda hp: {"units": hp.Int("units", 1, 2)}}, "space must hold arguments of mlp.*Received: units"),
        ({"space": 3}, "space must be a function"),
        ({"validation": 1.5}, "validation must be data or a fraction"),
        ({"data": (WINE.train[0], WINE.train[1] - 1)}, "labels span -1..1"),
        ({"data": (WINE.train[0], WINE.train[1][:-1])}, "samples"),
        ({"data": (WINE.train[0], WINE.train[1] + 0.5)}, 'task="regress"'),
        ({"data": (WINE.train[0], WINE.train[1].astype(str))}, "return_inverse"),
        ({"data": (WINE.train[0] * np.nan, WINE.train[1])}, "finite"),
        ({"data": WINE.train[0]}, "input_shape and num_classes"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tune(**arguments)


def test_bad_builders():
    with pytest.raises(ValueError, match="builder must be a function"):
        recipes.hypermodel(recipes.mlp((4,), 3), (4,), 3)
    with pytest.raises(ValueError, match="space must be a function"):
        recipes.hypermodel(lambda input_shape, num_classes: None, (4,), 3)
