"""`recipes.doctor`: each planted fault is named, a healthy set-up has none, and the model stays as it was."""

import random

import keras
import numpy as np

import recipes
from tests.bad_inputs import Parts

DIGITS = recipes.data.load("digits")
X, Y = recipes.data.load("wine").train


def names(report):
    return {finding.name for finding in report.findings}


def everything(model):
    variables = [*model.variables, *model.optimizer.variables, model.optimizer.learning_rate]
    return [keras.ops.convert_to_numpy(v).tobytes() for v in variables]


def test_a_healthy_table_has_no_finding_and_nothing_changes():
    model = recipes.mlp((13,), 3, hidden=(16,), dropout=0.2, adapt=X)
    model.optimizer.build(model.trainable_variables)
    before, drawn = everything(model), (random.getstate(), np.random.get_state()[1].tolist())
    report = recipes.doctor(model, (X, Y), validation=0.2)
    assert report.findings == [] and str(report).startswith("Nothing found.\nMeasured: leaked 0, loss 1.")
    assert everything(model) == before and drawn == (random.getstate(), np.random.get_state()[1].tolist())
    assert 1e-4 < report.measures["learning_rate"] < 1 and 1e-4 < report.measures["update"] < 0.1
    assert set(report.measures["gradients"]) == {v.path for v in model.trainable_variables if len(v.shape) == 2}


def test_healthy_images_have_no_finding():
    model = recipes.resnet((8, 8, 1), 10, depths=(1,), widths=(8,))
    assert recipes.doctor(model, DIGITS, learning_rates=False).findings == []


def deep_and_flat():
    """Sigmoids that fade the gradient, raw pixels, and a rate that moves nothing."""
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    for _ in range(14):
        model.add(keras.layers.Dense(8, activation="sigmoid"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(1e-9), "sparse_categorical_crossentropy")
    return model


def test_faded_gradients_raw_pixels_and_a_rate_too_low():
    assert {"vanishing_gradients", "input_range", "learning_rate"} <= names(recipes.doctor(deep_and_flat(), DIGITS))


def test_dead_units_a_sure_head_a_rate_too_high_and_leakage():
    model = recipes.mlp((13,), 3, hidden=(16, 16), activation="relu", adapt=X, learning_rate=30.0)
    hidden, head = model.get_layer("block1_dense"), model.get_layer("logits")
    hidden.bias.assign(np.full(16, -100.0))
    head.bias.assign(np.array([0.0, 9.0, -9.0]))
    model.get_layer("block2_dense").bias.assign(np.ones(16))
    report = recipes.doctor(model, (X, Y), validation=(X[:40], Y[:40]), learning_rates=False)
    assert names(report) == {"dead_units", "no_gradient", "loss_at_start", "learning_rate", "leakage"}
    found = {finding.name: finding for finding in report.findings}
    assert "block1_activation" in found["dead_units"].what and found["dead_units"].severity == "error"
    assert "block1_dense/kernel" in found["no_gradient"].what
    assert found["leakage"].what.startswith("40 of 40")
    assert [finding.severity for finding in report.findings] == sorted(finding.severity for finding in report.findings)
    assert "Why: " in str(report) and "Fix: Remove duplicates" in str(report)


def test_what_fit_would_refuse_is_a_finding():
    model = recipes.mlp((13,), 3, hidden=(8,), adapt=X)
    nan = X.copy()
    nan[3, 4] = np.nan
    frozen = recipes.mlp((13,), 3, hidden=(8,), adapt=X)
    frozen.trainable = False
    stopped = recipes.mlp((13,), 3, hidden=(8,), adapt=X)
    stopped.optimizer.learning_rate = float("nan")
    cases = [
        ("labels", model, (X, Y + 1)),
        ("inputs", model, (nan, Y)),
        ("inputs", model, Parts((X[:16], Y[:16]), (nan[:16], Y[:16]))),
        ("nothing_to_train", frozen, (X, Y)),
        ("learning_rate", stopped, (X, Y)),
    ]
    for name, patient, data in cases:
        report = recipes.doctor(patient, data)
        assert [finding.name for finding in report.findings] == [name]
        assert report.findings[0].severity == "error" and report.findings[0].what


def test_pixels_that_are_scaled_already_and_classes_that_nobody_learns():
    model = recipes.resnet((8, 8, 1), 10, depths=(1,), widths=(4,))
    x, y = DIGITS.train
    few, more = (x[y < 5] / np.float32(255), y[y < 5]), (x[y > 3] / np.float32(255), y[y > 3])
    report = recipes.doctor(model, few, validation=more)
    assert [(finding.name, finding.severity) for finding in report.findings] == [
        ("validation", "error"),
        ("input_range", "warning"),
    ]
