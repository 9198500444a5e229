"""The rows of every `TRAINING`, and what they are made of: LAMB, RMSProp, the binary loss, the exponential schedule."""

import json
import warnings

import keras
import numpy as np
import pytest

import recipes
from recipes.callbacks import WarmupExponential
from recipes.training.losses import BinaryCrossEntropy
from recipes.training.optimizer import LAMB, RMSProp
from recipes.training.recipe import make_optimizer
from tests.cases import FAMILIES

TINY = {  # of every family, arguments that keep a training step short
    "resnet": {"depths": (1,), "widths": (4,)},
    "efficientnet": {"width": 0.1, "depth": 0.1},
    "convnext": {"depths": (1,), "widths": (8,)},
    "alexnet": {"widths": (4,) * 5, "hidden": 8},
    "vit": {"width": 32, "depth": 1, "patch_size": 4},
}
TOKENS = {
    "gpt": {"vocabulary_size": 9, "max_length": 8, "width": 16, "depth": 1, "heads": 2},
    "transformer": {"vocabulary_size": 9, "max_length": 8, "width": 16, "depth": 1, "heads": 2},
}
ROWS = [(family.name, row) for family in FAMILIES for row in recipes.list_training(family.name)]
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (16, 16, 16, 3)).astype("uint8")
IDS = np.arange(16) % 3
# What the builders' defaults were before they had rows. Change a number here only with a measurement.
SHARED = {"label_smoothing": 0.1, "weight_decay": 0.05, "schedule": "WarmupCosine", "augment": "shift", "optimizer": "adamw"}


PIECES = np.c_[np.ones(16, int), RANDOM.integers(3, 9, (16, 6)), np.full(16, 2)].astype("int32")
DATA = {"gpt": PIECES, "transformer": {"source": PIECES, "target": PIECES}}


def build(family, **arguments):
    if family in TOKENS:
        return getattr(recipes, family)(**{**TOKENS[family], **arguments})
    return getattr(recipes, family)((16, 16, 3), 3, **{**TINY[family], **arguments})


@pytest.mark.parametrize("family, row", ROWS)
def test_row_builds_trains_saves_and_loads(family, row, tmp_path):
    model = build(family, training=row)
    assert json.loads(json.dumps(model.recipe)) == model.recipe
    model.run_eagerly = True  # tracing takes longer than three eager steps
    before = [v.numpy().copy() if hasattr(v, "numpy") else np.array(v) for v in model.trainable_variables]
    arguments = {"schedule": None} if row == "vaswani" else {}  # which warms up for 4,000 steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rate is that of the published batch size
        data = DATA.get(family, (IMAGES, IDS))
        history = recipes.fit(model, data, epochs=1, batch_size=16, verbose=0, sizes=None, **arguments)
    assert np.isfinite(history.history["loss"]).all()
    changed = [not np.array_equal(a, np.array(b)) for a, b in zip(before, model.trainable_variables, strict=True)]
    assert np.mean(changed) > 0.5
    recipes.save(model, tmp_path / "model")
    loaded = recipes.load_model(tmp_path / "model")
    assert loaded.recipe == model.recipe
    assert type(loaded.optimizer) is type(model.optimizer) and loaded.loss.get_config() == model.loss.get_config()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    x = DATA.get(family, IMAGES)
    np.testing.assert_array_equal(loaded(x), model(x))
    for a, b in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", TINY)
def test_names_and_the_default(family):
    assert recipes.list_training(family)[0] == "default"
    model = build(family)
    settings = model.recipe["training"]
    assert {name: settings[name] for name in ("schedule", "augment", "optimizer")} == {
        name: SHARED[name] for name in ("schedule", "augment", "optimizer")
    }
    assert settings["mix"] is None and settings["ema"] is None and settings["sizes"] is None and settings["repeats"] == 1
    assert settings["loss"] == "softmax"
    with pytest.raises(ValueError, match="training must be one of 'default'"):
        build(family, training="best")


def test_a_family_without_rows_and_no_family():
    assert recipes.list_training("mlp") == []
    with pytest.raises(ValueError, match="family"):
        recipes.list_training("lenet")


def test_what_is_given_replaces_the_row():
    model = build("resnet", training="rsb_a2", learning_rate=0.125, weight_decay=0.25, label_smoothing=0.5)
    assert float(model.optimizer.learning_rate) == 0.125 and model.optimizer.weight_decay == 0.25
    assert isinstance(model.optimizer, LAMB) and model.loss.get_config()["label_smoothing"] == 0.5
    assert "drop_path" not in " ".join(layer.name for layer in build("resnet").layers)
    row = build("resnet", training="rsb_a2", depths=(2,))
    assert row.get_layer("stage1_block2_drop_path").rate == 0.05
    off = build("resnet", training="rsb_a2", depths=(2,), drop_path=0.0)
    assert "stage1_block2_drop_path" not in [layer.name for layer in off.layers]


def test_the_published_numbers():
    """A few of each, as the sources in the comments have them."""
    a2 = build("resnet", training="rsb_a2").recipe["training"]
    assert (a2["learning_rate"], a2["batch_size"], a2["weight_decay"], a2["epochs"]) == (5e-3, 2048, 0.02, 300)
    assert a2["mix"] == {"mixup": 0.1, "cutmix": 1.0} and a2["loss"] == "binary" and a2["repeats"] == 3
    v2 = build("efficientnet", training="v2").recipe["training"]
    assert v2["learning_rate"] == pytest.approx(0.016 * v2["batch_size"] / 256) and v2["ema"] == 0.9999
    assert v2["schedule_arguments"]["floor"] == pytest.approx(0.97 ** (350 / 2.4), rel=0.01)
    deit = build("vit", training="deit").recipe["training"]
    assert deit["learning_rate"] == pytest.approx(5e-4 * deit["batch_size"] / 512)
    assert build("convnext", training="convnext").recipe["training"]["mix"] == {"mixup": 0.8, "cutmix": 1.0}


def test_another_batch_size_than_the_row_has_is_said():
    model = build("resnet", training="rsb_a3")
    model.run_eagerly = True
    with pytest.warns(UserWarning, match="the rate 0.008 for batches of 2048.*learning_rate=6.3e-05"):
        recipes.fit(model, (IMAGES, IDS), epochs=1, batch_size=16, verbose=0)
    assert float(model.optimizer.learning_rate) == np.float32(8e-3)
    for quiet in (build("resnet"), build("resnet", training="rsb_a3", learning_rate=1e-4)):
        quiet.run_eagerly = True
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            recipes.fit(quiet, (IMAGES, IDS), epochs=1, batch_size=16, verbose=0)


def test_head_clone_and_fine_tuning_go_on_working():
    model = build("resnet", training="rsb_a3", learning_rate=1e-3)
    clone = keras.models.clone_model(model)
    assert clone.get_config() == model.get_config()
    swapped = recipes.replace_head(model, 5)
    assert swapped.recipe["training"]["optimizer"] == "lamb" and isinstance(swapped.loss, BinaryCrossEntropy)
    tuned, _ = recipes.fine_tune(model, (IMAGES, IDS), epochs=1, freeze_epochs=0, verbose=0)
    assert type(tuned.optimizer).__name__ == "AdamW"


# ------------------------------------------------------------------------------------------------------ the optimizers

KERNEL, BIAS = RANDOM.normal(size=(4, 3)).astype("float32"), np.zeros(3, "float32")
STEPS = [(RANDOM.normal(size=(4, 3)).astype("float32"), RANDOM.normal(size=3).astype("float32")) for _ in range(5)]


def run(optimizer, steps=STEPS):
    with keras.name_scope("dense"):
        weights = [keras.Variable(KERNEL, name="kernel"), keras.Variable(BIAS, name="bias")]
    optimizer.build(weights)
    for gradients in steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])
    return [keras.ops.convert_to_numpy(v) for v in weights]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (lambda: LAMB(1e-2, weight_decay=0.0), lambda: keras.optimizers.Lamb(1e-2, epsilon=1e-6)),
        (
            lambda: RMSProp(1e-2, weight_decay=0.0),
            lambda: keras.optimizers.RMSprop(1e-2, rho=0.9, momentum=0.9, epsilon=1e-3),
        ),
        (
            lambda: RMSProp(1e-2, weight_decay=None, momentum=0.0),
            lambda: keras.optimizers.RMSprop(1e-2, rho=0.9, epsilon=1e-3),
        ),
    ],
)
def test_a_step_is_that_of_keras(ours, theirs):
    for found, expected in zip(run(ours(), STEPS[:1]), run(theirs(), STEPS[:1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)
    np.testing.assert_allclose(run(ours())[0], run(theirs())[0], rtol=0, atol=2e-6)  # the kernel: more steps too


@pytest.mark.any_backend
def test_lamb_is_algorithm_2_and_spares_vectors():
    def closed_form(value, gradients, decay, scaled, rate=1e-2):
        value, m, v = value.astype("float64"), 0.0, 0.0
        for t, g in enumerate(gradients, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype("float64") ** 2
            step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * value
            value = value - rate * step * (np.linalg.norm(value) / np.linalg.norm(step) if scaled else 1)
        return value

    kernel, bias = run(LAMB(1e-2, weight_decay=0.1))
    np.testing.assert_allclose(kernel, closed_form(KERNEL, [s[0] for s in STEPS], 0.1, True), atol=1e-6)
    np.testing.assert_allclose(bias, closed_form(BIAS, [s[1] for s in STEPS], 0.0, False), atol=1e-6)
    zeros = [(np.zeros_like(KERNEL), np.zeros_like(BIAS))]
    assert np.isfinite(run(LAMB(1e-2, weight_decay=0.0), zeros)[0]).all()


@pytest.mark.any_backend
def test_rmsprop_adds_its_decay_to_the_gradient():
    kernel, bias = run(RMSProp(1e-2, weight_decay=0.1))
    value, velocity, momentum = KERNEL.astype("float64"), 0.0, 0.0
    for gradient, _ in STEPS:
        gradient = gradient + 0.1 * value
        velocity = 0.9 * velocity + 0.1 * gradient**2
        momentum = 0.9 * momentum + 1e-2 * gradient / np.sqrt(velocity + 1e-3)
        value = value - momentum
    np.testing.assert_allclose(kernel, value, atol=1e-6)
    np.testing.assert_allclose(bias, run(RMSProp(1e-2, weight_decay=0.0))[1], atol=1e-7)


@pytest.mark.any_backend
@pytest.mark.parametrize("optimizer", [LAMB, RMSProp])
def test_rates_of_layers_and_configuration(optimizer):
    slow = run(optimizer(1e-2, lr_multipliers=[("kernel", 0.5)]), STEPS[:1])
    for found, expected, factor in zip(slow, run(optimizer(1e-2), STEPS[:1]), (0.5, 1.0), strict=True):
        start = KERNEL if factor == 0.5 else BIAS
        np.testing.assert_allclose(found - start, factor * (expected - start), atol=1e-6)
    made = optimizer(1e-2, lr_multipliers=[("kernel", 0.5)], global_clipnorm=1.0)
    again = optimizer.from_config(made.get_config())
    assert again.get_config() == made.get_config()
    assert json.loads(json.dumps(made.get_config())) == made.get_config()
    assert keras.saving.get_registered_name(optimizer) == f"recipes>{optimizer.__name__}"
    assert float(made.momentum_variable) == np.float32(0.9)


def test_optimizers_come_from_settings():
    common = {"learning_rate": 1e-3, "weight_decay": 0.1, "global_clipnorm": None, "momentum": 0.8, "beta_2": 0.99}
    for name, attribute in (("lamb", "beta_1"), ("rmsprop", "momentum"), ("adamw", "beta_1"), ("sgd", "momentum")):
        made = make_optimizer({**common, "optimizer": name})
        assert made.get_config()[attribute] == 0.8
        if name in ("lamb", "adamw"):
            assert made.beta_2 == 0.99


# --------------------------------------------------------------------------------------------------- loss and schedule


@pytest.mark.any_backend
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_loss_is_the_closed_form_for_ids_and_soft_targets(smoothing):
    logits = RANDOM.normal(size=(6, 4)).astype("float32") * 3
    ids = np.array([0, 1, 2, 3, 0, 1])
    soft = np.eye(4)[ids]
    targets = (1 - smoothing) * soft + smoothing / 4
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    loss = BinaryCrossEntropy(label_smoothing=smoothing)
    for y in (ids, ids[:, None], soft.astype("float32")):
        assert float(loss(y, logits)) == pytest.approx(expected, rel=1e-5)
    again = BinaryCrossEntropy.from_config(loss.get_config())
    assert again.label_smoothing == smoothing
    with pytest.raises(ValueError, match="label_smoothing"):
        BinaryCrossEntropy(label_smoothing=1.0)


@pytest.mark.any_backend
def test_binary_loss_does_not_overflow_and_keeps_the_accuracy():
    loss = BinaryCrossEntropy()
    assert float(loss(np.array([0]), np.array([[1e4, -1e4]], "float32"))) == pytest.approx(0, abs=1e-6)
    assert float(loss(np.array([1]), np.array([[1e4, -1e4]], "float32"))) == pytest.approx(1e4)
    model = build("resnet", training="rsb_a2")
    assert [m.name for m in model._compile_metrics._user_metrics] == ["accuracy"]


def test_exponential_schedule():
    schedule = WarmupExponential(warmup=10, floor=0.01)
    rates = schedule.fraction(np.arange(110), 110)
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.01 ** (np.arange(100) / 100), rtol=1e-12)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()
    as_schedule = schedule.as_schedule(0.5, 110)
    assert float(as_schedule(60)) == pytest.approx(0.5 * rates[60], rel=1e-5)
    for floor in (0, -1.0, 1.5):
        with pytest.raises(ValueError, match="floor"):
            WarmupExponential(floor=floor)
