"""`recipes.fit`, `predict` and `evaluate`: what they check, what they change, what they return."""

import warnings

import keras
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

import recipes
from recipes.training.checks import check_arrays
from recipes.training.prepare import default_batch_size, prepare

pytestmark = pytest.mark.any_backend


def wine():
    x, y = load_wine(return_X_y=True)
    return x.astype("float32"), y


def wine_mlp(**arguments):
    return recipes.mlp((13,), 3, hidden=(16,), **arguments)


def test_trains_adapts_and_reports_the_rate():
    model = wine_mlp()
    history = recipes.fit(model, wine(), validation=0.2, epochs=20, verbose=0)
    assert model.get_layer("standardize").adapted
    assert history.history["val_accuracy"][-1] > 0.9  # raw columns up to 1680 would not get there
    assert history.history["learning_rate"][-1] < 0.1 * model.recipe["training"]["learning_rate"]
    assert set(history.history) == {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"}


def test_the_step_is_traced_once():
    model, traces = wine_mlp(), []
    step = model.train_step
    model.train_step = lambda *arguments: traces.append(1) or step(*arguments)
    recipes.fit(model, wine(), epochs=1, batch_size=89, verbose=0)  # two batches of one size, which JAX compiles for
    assert len(traces) == 1


def test_adapts_to_the_training_part_only():
    x, y = wine()
    model = wine_mlp()
    recipes.fit(model, (x, y), validation=0.5, epochs=0, verbose=0)
    (kept, _), _ = recipes.data.split(x, y, 0.5, seed=0, stratify=True)
    np.testing.assert_allclose(model.get_layer("standardize").mean, kept.mean(axis=0), rtol=1e-5)


def test_the_same_seeds_give_the_same_weights_and_another_order_others():
    def run(seed):
        keras.utils.set_random_seed(1)
        model = recipes.resnet((8, 8, 1), 3, depths=(1,), widths=(4,))
        x = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 1)).astype("uint8")
        recipes.fit(model, (x, np.arange(64) % 3), epochs=2, seed=seed, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    first, again, other = run(0), run(0), run(1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_later_start_goes_on_with_the_order_of_its_epoch():
    train, _ = prepare(wine_mlp(), wine(), initial_epoch=2)  # what `fit` makes of it: tests/test_batches.py
    assert train.initial_epoch == 2


def test_regression_predicts_in_original_units():
    x, y = load_diabetes(return_X_y=True)
    model = recipes.mlp((10,), 1, task="regress", hidden=(32,))
    history = recipes.fit(model, (x, y), epochs=20, verbose=0)
    assert 0.2 < history.history["loss"][0] < 3  # in units of the target's variance, 5930
    measures = recipes.evaluate(model, (x, y))
    assert measures["r2"] > 0.3 and measures["mae"] < 60 and set(measures) == {"mae", "rmse", "r2"}
    assert recipes.predict(model, x).labels is None


def test_predict_gives_probabilities_names_and_the_likeliest():
    data = recipes.data.load("wine")
    model = wine_mlp()
    recipes.fit(model, data, epochs=5, verbose=0)
    predictions = recipes.predict(model, data.test[0])
    np.testing.assert_allclose(predictions.values.sum(axis=1), 1, rtol=1e-6)
    assert predictions.names[0] in data.info.class_names
    top = predictions.top(2)
    assert top[0][0][1] >= top[0][1][1] and len(top[0]) == 2
    measures = recipes.evaluate(model, data)
    assert measures["accuracy"] == np.mean(predictions.labels == data.test[1])


def test_two_classes_have_a_roc_auc():
    x, y = load_breast_cancer(return_X_y=True)
    model = recipes.mlp((30,), 2, hidden=(8,), adapt=x)
    recipes.fit(model, (x, y), epochs=2, verbose=0)
    assert recipes.evaluate(model, (x, y))["roc_auc"] > 0.9


def test_multilabel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = (x[:, :3] > 0).astype(int)
    model = recipes.mlp((4,), 3, task="multilabel", hidden=(32,))
    recipes.fit(model, (x, y), epochs=30, verbose=0)
    assert recipes.evaluate(model, (x, y))["accuracy"] > 0.9
    predictions = recipes.predict(model, x)
    assert predictions.labels.shape == (200, 3)
    assert predictions.names[0] == [str(i) for i in np.flatnonzero(predictions.labels[0])]


def test_categories_and_numbers_together():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (256, 2))
    x = {"numeric": rng.normal(size=(256, 1)), "categories": ids}
    y = (ids[:, 0] == ids[:, 1]).astype(int)
    model = recipes.mlp((1,), 2, categories=(4, 4), hidden=(32, 32), dropout=0.0, learning_rate=1e-2)
    recipes.fit(model, (x, y), epochs=30, verbose=0)
    assert recipes.evaluate(model, (x, y))["accuracy"] > 0.95


def test_early_stopping_returns_the_best_weights():
    x, y = wine()
    rng = np.random.default_rng(0)
    model = wine_mlp(learning_rate=0.1)
    validation = (x[:40], rng.integers(0, 3, 40))  # random labels: the validation loss only gets worse
    history = recipes.fit(model, (x, y), validation=validation, epochs=30, early_stopping=3, verbose=0)
    losses = history.history["val_loss"]
    assert len(losses) < 30
    assert model.evaluate(*validation, verbose=0, batch_size=256)[0] == pytest.approx(min(losses), rel=1e-4)


def test_keras_knows_that_more_accuracy_is_better():
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=1)
    recipes.fit(wine_mlp(), wine(), validation=0.2, epochs=2, callbacks=[stop], verbose=0)


def test_sample_weights_of_one_change_nothing_and_zero_removes():
    x, y = wine()

    def run(weight):
        keras.utils.set_random_seed(0)
        model = wine_mlp(adapt=x)
        recipes.fit(model, (x, y), epochs=1, sample_weight=weight, verbose=0)
        return model.get_weights()

    plain, ones = run(None), run(np.ones(len(y)))
    for a, b in zip(plain, ones, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_stranger_is_trained_with_a_warning():
    model = keras.Sequential([keras.Input((13,)), keras.layers.Dense(3)])
    model.compile("adam", recipes.CrossEntropy())
    with pytest.warns(UserWarning, match="did not come from a builder"):
        recipes.fit(model, wine(), epochs=1, verbose=0)


def test_inputs_are_not_changed():
    x = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 1)).astype("uint8")
    before = x.copy()
    x.flags.writeable = False
    recipes.fit(recipes.resnet((8, 8, 1), 2, depths=(1,), widths=(4,)), (x, np.arange(32) % 2), epochs=1, verbose=0)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(("examples", "expected"), [(50_000, 128), (1437, 128), (1279, 64), (400, 32), (20, 16)])
def test_default_batch_size(examples, expected):
    assert default_batch_size(examples, 128) == expected


def bad(x=None, y=None, **arguments):
    good_x, good_y = wine()
    return lambda: recipes.fit(
        wine_mlp(adapt=good_x), (good_x if x is None else x, good_y if y is None else y), verbose=0, **arguments
    )


def spoiled(value):
    x, _ = wine()
    x = x.astype("float64")
    x[3, 2] = value
    return x


X, Y = wine()
BAD = {
    "columns": (bad(x=X[:, :12]), r"x must have shape \(examples, 13\).*\(178, 12\)"),
    "length": (bad(y=Y[:9]), "178 examples and y has 9"),
    "nan": (bad(x=spoiled(np.nan)), r"x\[3, 2\] = nan is not finite"),
    "overflow": (bad(x=spoiled(1e300)), "overflows float32"),
    "complex": (bad(x=X.astype("complex64")), "real numbers"),
    "object": (bad(x=[[1, 2], [3]]), "rectangular|object"),
    "masked": (bad(x=np.ma.masked_array(X)), "masked"),
    "empty": (bad(x=X[:0], y=Y[:0]), "0 examples"),
    "labels from 1": (bad(y=Y + 1), r"labels span 1\.\.3.*Subtract 1"),
    "labels too high": (bad(y=Y + 5), r"labels span 5\.\.7.*num_classes=8"),
    "labels negative": (bad(y=Y - 1), r"span -1\.\.1"),
    "labels fractional": (bad(y=Y + 0.5), "whole class ids"),
    "labels strings": (bad(y=Y.astype(str)), "encode them"),
    "labels nan": (bad(y=np.where(Y == 0, np.nan, Y)), "finite"),
    "labels soft": (bad(y=np.full((178, 3), 0.5)), "sum to 1"),
    "no y": (lambda: recipes.fit(wine_mlp(adapt=X), X), r"data must be \(x, y\)"),
    "batch size": (bad(batch_size=0), "batch_size"),
    "epochs": (bad(epochs=-1), "epochs"),
    "validation": (bad(validation=1.5), "validation"),
    "validation labels": (bad(validation=(X, Y + 1)), r"validation y labels span 1\.\.3"),
    "class weight": (bad(class_weight={0: 1.0}), r"class_weight.*\[1, 2\]"),
    "class weight negative": (bad(class_weight={0: -1.0, 1: 1.0, 2: 1.0}), "class_weight"),
    "sample weight": (bad(sample_weight=np.zeros(178)), "sample_weight"),
    "early stopping": (bad(early_stopping=3), "early_stopping needs validation"),
    "schedule": (bad(schedule="cosine"), "schedule must be"),
    "augment": (bad(augment="blur"), "augment must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_nothing_is_trained(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((5, 3, 16, 16), "channels first"), ((5, 16, 16, 1), "repeat the channel"), ((5, 20, 20, 3), "Resize")],
)
def test_images_of_another_layout_are_explained(shape, hint):
    model = recipes.resnet((16, 16, 3), 2, depths=(1,), widths=(4,))
    with pytest.raises(ValueError, match=hint):
        recipes.fit(model, (np.zeros(shape, "uint8"), np.zeros(5, int)))


def test_categories_out_of_range_are_named():
    model = recipes.mlp((0,), 2, categories=(3, 5), hidden=(4,))
    ids = {"categories": np.array([[2, 4], [3, 0]])}
    with pytest.raises(ValueError, match=r"column 0 spans 2\.\.3.*3 categories"):
        recipes.fit(model, (ids, np.array([0, 1])))


def test_odd_memory_layouts_are_taken_as_they_are():
    x, y = wine()
    model = wine_mlp(adapt=x)
    for same in (np.asfortranarray(x), x[::-1][::-1], x.astype(">f4"), x.tolist()):
        checked, _ = check_arrays(model, same, y)
        assert np.array_equal(checked.astype("float32"), x)


def test_no_warning_for_our_own_models():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        recipes.fit(wine_mlp(), wine(), epochs=1, verbose=0)
