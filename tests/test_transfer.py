"""Freezing, heads, fine-tuning and LoRA: on models of recipes, of keras.applications and made by hand."""

import math
import re
import warnings

import keras
import numpy as np
import pytest

import recipes
from recipes.training.graph import GROUPS, find_head, flatten, layer_factors, layer_groups

pytestmark = pytest.mark.any_backend


def tiny_resnet(num_classes=10, **arguments):
    return recipes.resnet((8, 8, 1), num_classes, depths=(1,), widths=(4,), **arguments)


def images(n=32, classes=4, shape=(8, 8, 1), seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, *shape)).astype("uint8"), np.arange(n) % classes


def values(model):
    """Every weight by its variable, as arrays."""
    return {v.path: np.array(v) for v in model.weights}


def changed(model, before):
    after = values(model)
    return {path for path in before if not np.array_equal(before[path], after[path])}


def trainable(model):
    return {v.path for v in model.trainable_variables}


def nested():
    """A Sequential with a nested functional model and a composite layer with BatchNorm inside the nested one."""
    inputs = keras.Input((8, 8, 1), name="inner_image")
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="inner_pool")(x)
    inner = keras.Model(inputs, keras.layers.Dense(6, activation="softmax", name="inner_head")(x), name="inner")
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255, name="rescale"), inner], name="outer")


def attention_model():
    inputs = keras.Input((5, 8), name="tokens")
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Dense(8, activation="gelu", name="mlp")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(x), name="transformer")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return model


def tokens(n=24):
    generator = np.random.default_rng(0)
    return generator.normal(size=(n, 5, 8)).astype("float32"), np.arange(n) % 3


# freeze and unfreeze


def test_freeze_leaves_the_head_and_frozen_weights_stay_bit_equal():
    model = tiny_resnet(4, learning_rate=0.1, weight_decay=0.5)
    assert recipes.freeze(model) is model
    assert trainable(model) == {"logits/kernel", "logits/bias"}
    before = values(model)
    model.fit(*images(), epochs=2, verbose=0)
    assert changed(model, before) == {"logits/kernel", "logits/bias"}  # no decay below, no new statistics either


def test_freeze_until_a_layer_or_all_but_the_last():
    model = tiny_resnet(4)
    recipes.freeze(model, "stage1_block1_1_norm")
    assert {path.split("/")[0] for path in trainable(model)} == {"stage1_block1_2_conv", "stage1_block1_2_norm", "logits"}
    recipes.freeze(model, 2)  # the head, and the convolution below it with its BatchNorm
    assert {path.split("/")[0] for path in trainable(model)} == {"stage1_block1_2_conv", "stage1_block1_2_norm", "logits"}
    recipes.freeze(model, 1)
    assert trainable(model) == {"logits/kernel", "logits/bias"}


def test_unfreeze_takes_effect_and_leaves_batch_norm():
    model = recipes.unfreeze(recipes.freeze(tiny_resnet(4)))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and not any(layer.trainable for layer in norms)
    before = values(model)
    model.fit(*images(), epochs=1, verbose=0)
    moved = changed(model, before)
    assert "stem_conv/kernel" in moved and not any("norm" in path for path in moved)
    recipes.unfreeze(model, batch_norm=True)
    assert "stem_norm/gamma" in trainable(model)


def test_unfreeze_from_a_layer_and_the_last_n():
    model = recipes.unfreeze(recipes.freeze(tiny_resnet(4)), "stage1_block1_2_conv")
    assert trainable(model) == {"stage1_block1_2_conv/kernel", "logits/kernel", "logits/bias"}
    model = recipes.unfreeze(recipes.freeze(tiny_resnet(4)), 1)
    assert trainable(model) == {"logits/kernel", "logits/bias"}


def test_freezing_keeps_optimizer_loss_and_metrics():
    model = attention_model()
    optimizer = keras.optimizers.AdamW(0.02, weight_decay=0.1, global_clipnorm=2.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, model.loss, metrics=["accuracy"], steps_per_execution=2)
    recipes.freeze(model)
    new = model.optimizer
    assert new is not optimizer and new.get_config() == optimizer.get_config()
    assert new._exclude_from_weight_decay_pattern == optimizer._exclude_from_weight_decay_pattern
    assert model.steps_per_execution == 2
    history = model.fit(*tokens(), epochs=1, verbose=0)
    assert set(history.history) == {"loss", "accuracy"}
    multi = attention_model()
    multi.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse")
    recipes.freeze(multi)
    assert isinstance(multi.optimizer._learning_rate, keras.optimizers.schedules.CosineDecay)


def test_an_uncompiled_model_stays_uncompiled():
    model = nested()
    recipes.freeze(model)
    assert not model.compiled and trainable(model) == {"inner_head/kernel", "inner_head/bias"}


def test_nested_models_are_flattened_also_when_frozen_from_outside():
    model = nested()
    assert [layer.name for layer, _ in flatten(model)][-3:] == ["norm", "inner_pool", "inner_head"]
    model.get_layer("inner").trainable = False
    recipes.unfreeze(model, "inner_head")
    assert trainable(model) == {"inner_head/kernel", "inner_head/bias"}
    recipes.unfreeze(model, "inner")
    assert trainable(model) == {"conv/kernel", "conv/bias", "inner_head/kernel", "inner_head/bias"}


def test_unknown_layers_and_headless_models_are_refused():
    model = tiny_resnet(4)
    before = trainable(model)
    for call in (lambda: recipes.freeze(model, "stem_con"), lambda: recipes.unfreeze(model, "stem_con")):
        with pytest.raises(ValueError, match="stem_conv"):
            call()
    with pytest.raises(ValueError, match="until must be at most"):
        recipes.freeze(model, 100)
    with pytest.raises(ValueError, match="what must be an integer >= 1"):
        recipes.unfreeze(model, 0)
    assert trainable(model) == before
    backbone = keras.Model(model.input, model.get_layer("stage1_block1_relu").output)
    with pytest.raises(ValueError, match="has no head"):
        recipes.freeze(backbone)


# heads


def test_the_head_of_a_builder_is_built_again_the_same(tmp_path):
    old = tiny_resnet(10, dropout=0.2)
    before = values(old)
    old.recipe["class_names"] = list("0123456789")
    new = recipes.replace_head(old, 4, dropout=0.5, learning_rate=5e-3)
    assert new.output_shape == (None, 4) and new.compiled and new.name == old.name
    assert new.get_layer("features").rate == 0.5 and old.get_layer("features").rate == 0.2
    assert new.get_layer("stem_conv") is old.get_layer("stem_conv")  # shared
    assert old.output_shape == (None, 10) and not changed(old, before)
    assert "class_names" not in new.recipe  # they were those of the old head
    assert new.recipe["arguments"]["num_classes"] == 4 and float(new.optimizer.learning_rate) == pytest.approx(5e-3)
    recipes.save(new, tmp_path / "model")
    again = recipes.load_model(tmp_path / "model")
    x = images()[0]
    np.testing.assert_array_equal(again.predict(x, verbose=0), new.predict(x, verbose=0))


def test_the_task_may_change(tmp_path):
    new = recipes.replace_head(recipes.mlp((4,), 3, hidden=(8,)), 2, task="regress")
    assert new.recipe["training"]["task"] == "regress" and new.layers[-1].name == "target"
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    recipes.fit(new, (x, 100 + 10 * x[:, :2]), epochs=1, verbose=0)
    assert abs(float(np.mean(new.predict(x, verbose=0))) - 100) < 20
    recipes.save(new, tmp_path / "model")
    assert recipes.load_model(tmp_path / "model").output_shape == (None, 2)
    with pytest.raises(ValueError, match="dropout must be None"):
        recipes.replace_head(new, 3, dropout=0.1)


APPLICATIONS = {
    "MobileNetV2": {"input_shape": (32, 32, 3), "alpha": 0.35},
    "MobileNetV3Small": {"input_shape": (32, 32, 3), "alpha": 0.75, "minimalistic": True},  # a convolution for a head
    "EfficientNetB0": {"input_shape": (32, 32, 3)},
}


@pytest.mark.parametrize("top", ["classes", "pooled", "positions"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_with_and_without_a_head(name, top):
    if keras.backend.backend() == "jax" and name != "MobileNetV3Small":
        pytest.skip("the graph decides, not the backend, and each takes half a minute to compile")
    arguments = dict(APPLICATIONS[name])
    if top != "classes":
        arguments |= {"include_top": False, "pooling": "avg" if top == "pooled" else None}
    old = getattr(keras.applications, name)(weights=None, **arguments)
    new = recipes.replace_head(old, 7)
    assert new.output_shape == (None, 7) and new.layers[-1].name == "logits"
    assert len(new.get_layer("features").output.shape) == 2
    assert not any(isinstance(layer, keras.layers.Dense) for layer in new.layers[:-1])
    if keras.backend.backend() == "tensorflow" and top == "classes":  # slow elsewhere, and nothing new
        x = images(16, 7, (32, 32, 3))[0].astype("float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(np.arange(16) % 7, new(x))
        assert abs(float(loss) - math.log(7)) < 0.1


def test_a_head_within_a_nested_model_is_found():
    model = nested()
    x, head = find_head(model)
    assert [layer.name for layer in head] == ["inner_head"] and x.shape == (None, 4)
    new = recipes.replace_head(model, 3)
    assert new.output_shape == (None, 3) and len(new.get_layer("inner").layers) == 4
    assert recipes.replace_head(new, 2).get_layer("features") is new.get_layer("features")


def test_what_is_and_is_not_a_head():
    def ends_in(*layers):
        return [layer.name for layer in find_head(keras.Sequential([keras.Input((4, 4, 3)), *layers]))[1]]

    layers = keras.layers
    pool = layers.GlobalAveragePooling2D
    assert ends_in(layers.Conv2D(8, 1, name="a"), pool()) == []  # features, pooled
    assert ends_in(layers.Conv2D(8, 1, name="a"), layers.ReLU(), pool(name="b"), layers.Softmax(name="c"))[-1] == "a"
    assert ends_in(layers.Flatten(), layers.Dense(8, "relu", name="a")) == []
    assert ends_in(layers.Flatten(), layers.Dense(8, name="a"), layers.Activation("gelu")) == []
    assert ends_in(layers.Flatten(), layers.Dense(8, name="a")) == ["a"]
    assert ends_in(pool(), layers.LayerNormalization()) == []


def test_an_output_can_be_named():
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    mask = keras.Input((6,), dtype="int32", name="padding_mask")
    x = keras.layers.Embedding(9, 4, name="embedding")(ids)
    pooled = keras.layers.Dense(4, "tanh", name="pooled_dense")(x[:, 0])
    outputs = {"sequence_output": x, "pooled_output": pooled}
    encoder = keras.Model({"token_ids": ids, "padding_mask": mask}, outputs, name="encoder")
    with pytest.raises(ValueError, match="output must name one of the outputs.*pooled_output"):
        recipes.replace_head(encoder, 2)
    with pytest.raises(ValueError, match="Similar names: .*pooled_output"):
        recipes.replace_head(encoder, 2, output="pooled")
    assert recipes.replace_head(encoder, 2, output="pooled_output").get_layer("features").output.shape == (None, 4)
    new = recipes.replace_head(encoder, 2, output="sequence_output")
    first = {"token_ids": np.array([[1, 2, 0, 0, 0, 0]]), "padding_mask": np.array([[1, 1, 0, 0, 0, 0]])}
    second = {**first, "token_ids": np.array([[1, 2, 3, 4, 5, 6]])}  # padding is not averaged
    np.testing.assert_allclose(new.predict(first, verbose=0), new.predict(second, verbose=0), rtol=1e-6)


def test_heads_refuse_what_they_cannot_do():
    class Subclass(keras.Model):
        pass

    with pytest.raises(ValueError, match="functional or a built Sequential"):
        recipes.replace_head(Subclass(), 3)
    with pytest.raises(ValueError, match="num_classes must be an integer >= 2"):
        recipes.replace_head(nested(), 1)
    with pytest.raises(ValueError, match="dropout must be in"):
        recipes.replace_head(nested(), 3, dropout=1.0)


# layer-wise rates


def test_groups_and_factors():
    model = recipes.resnet((8, 8, 1), 5, depths=(2, 2), widths=(4, 8))
    groups = layer_groups(model)
    convolutions = [v for v in model.weights if v.path.endswith("conv/kernel")]
    assert len(groups) == math.ceil(len(convolutions) / 4)
    assert sum(map(len, groups)) == len(model.weights) - 2  # all but the head
    multipliers = layer_factors(model, 0.5)

    def factor(path):
        return next(factor for pattern, factor in multipliers if re.search(pattern, path))

    assert factor("stem_conv/kernel") == 0.5 ** len(groups)
    assert factor("logits/kernel") == 1.0 and factor("outer/inner/logits/kernel") == 1.0
    for i, group in enumerate(groups):
        assert {factor(v.path) for v in group} == {0.5 ** (len(groups) - i)}
    optimizer = recipes.AdamW(lr_multipliers=multipliers)
    optimizer.build(model.trainable_variables)
    rates = dict(zip([v.path for v in model.trainable_variables], optimizer._factors, strict=True))
    assert rates["stem_conv/kernel"] == 0.5 ** len(groups) and rates["logits/bias"] == 1.0
    deep = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, name=f"d{i}") for i in range(99))])
    assert len(layer_groups(deep)) == GROUPS


def test_factors_tell_equal_names_apart():
    inputs = keras.Input((4,))
    x = inputs
    for part in ("low", "high"):
        inner = [keras.layers.Dense(4, activation="relu", name=f"dense{i}") for i in range(4)]
        x = keras.Sequential([keras.Input((4,)), *inner], name=part)(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="dense0")(x))
    multipliers = layer_factors(model, 0.1)

    def factor(path):
        return next(factor for pattern, factor in multipliers if re.search(pattern, path))

    found = {v.path: factor(v.path) for v in model.weights}
    assert {f for path, f in found.items() if path.startswith("low/")} == {0.1**2}
    assert {f for path, f in found.items() if path.startswith("high/")} == {0.1}
    assert found["dense0/kernel"] == 1.0


# fine-tuning


def test_two_phases_one_history():
    class Watch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_epoch_begin(self, epoch, logs=None):
            self.seen.append((epoch, self.params["epochs"], len(self.model.trainable_variables)))

    old, watch = tiny_resnet(4), Watch()
    before = values(old)
    norms = {path for path in before if "norm" in path}
    model, history = recipes.fine_tune(
        old, images(), validation=images(8, seed=1), epochs=4, freeze_epochs=2, callbacks=[watch], verbose=0
    )
    assert model is old  # its head fitted
    assert history.epoch == [0, 1, 2, 3] and model.history is history
    assert {len(v) for v in history.history.values()} == {4}
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    all_trainable = len(model.trainable_variables)
    assert watch.seen == [(0, 4, 2), (1, 4, 2), (2, 4, all_trainable), (3, 4, all_trainable)]
    assert changed(model, before) == set(before) - norms
    assert type(model.optimizer) is recipes.AdamW and float(model.optimizer.learning_rate) == pytest.approx(5e-4)
    curve = history.history["learning_rate"]
    assert curve[1] < 5e-4 < curve[0] and curve[3] < curve[2] < 5.1e-4  # each phase comes down from its own peak


def test_head_only_leaves_all_below_bit_equal():
    model = tiny_resnet(4, weight_decay=0.5)
    before = values(model)
    _, history = recipes.fine_tune(model, images(), epochs=2, freeze_epochs=2, learning_rate=0.1, verbose=0)
    assert changed(model, before) == {"logits/kernel", "logits/bias"} and history.epoch == [0, 1]


def test_unfreezing_a_part_leaves_the_rest_bit_equal():
    model = tiny_resnet(4)
    before = values(model)
    recipes.fine_tune(model, images(), epochs=2, unfreeze="stage1_block1_2_conv", verbose=0)
    assert changed(model, before) == {"stage1_block1_2_conv/kernel", "logits/kernel", "logits/bias"}


def test_the_head_is_replaced_when_the_labels_ask_for_it():
    model = tiny_resnet(10)
    with pytest.warns(UserWarning, match="for 10 outputs was replaced by a new one for 4"):
        new, _ = recipes.fine_tune(model, images(), epochs=1, verbose=0)
    assert new.output_shape == (None, 4) and new.recipe["arguments"]["num_classes"] == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        new, _ = recipes.fine_tune(model, images(), epochs=1, num_classes=6, verbose=0)
        assert new.output_shape == (None, 6)
        soft = np.eye(10)[images()[1]].astype("float32")
        new, _ = recipes.fine_tune(model, (images()[0], soft), epochs=1, verbose=0)
        assert new is model


def test_fine_tunes_an_uncompiled_application():
    old = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None)  # its head is a convolution
    x, y = images(16, 3, (32, 32, 3))
    model, history = recipes.fine_tune(old, (x, y), epochs=2, verbose=0)
    assert model.output_shape == (None, 3) and abs(history.history["loss"][0] - math.log(3)) < 0.3


def test_keeps_the_loss_and_metrics_of_a_foreign_model():
    model = attention_model()
    tuned, history = recipes.fine_tune(model, tokens(), epochs=2, verbose=0)
    assert tuned is model and isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)
    assert set(history.history) == {"loss", "accuracy", "learning_rate"}


def test_regression_and_datasets():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    model = recipes.replace_head(recipes.mlp((4,), 3, hidden=(8,)), 1, task="regress")
    model, history = recipes.fine_tune(model, (x, 100 + 10 * x[:, 0]), epochs=2, validation=0.2, verbose=0)
    assert history.history["loss"][0] < 10  # in units of the target's variance
    batches = recipes.data.Batches(*images(), batch_size=8)
    model, history = recipes.fine_tune(tiny_resnet(4), batches, epochs=2, verbose=0)
    assert history.epoch == [0, 1]
    with pytest.raises(ValueError, match="num_classes must be given"):
        recipes.fine_tune(keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None), batches)


@pytest.mark.parametrize("freeze_epochs", [0, 1, 2])
def test_every_phase_survives_saving_and_loading(tmp_path, freeze_epochs):
    inner = tiny_resnet(4)
    backbone = keras.Model(inner.input, inner.get_layer("features").output, name="backbone")
    outer = keras.Sequential([keras.Input((8, 8, 1)), backbone])
    model, _ = recipes.fine_tune(outer, images(), epochs=2, freeze_epochs=freeze_epochs, verbose=0)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras only warns when it drops the optimizer's state
        again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer._factors == model.optimizer._factors
    assert len(set(model.optimizer._factors)) == (1 if freeze_epochs == 2 else 1 + len(layer_groups(model)))
    for one, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    x, y = images()
    for either in (model, again):
        keras.utils.set_random_seed(1)
        either.fit(x, y, epochs=1, shuffle=False, verbose=0)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_bad_input_is_refused_and_nothing_changes():
    model = tiny_resnet(4)
    x, y = images()
    before, optimizer = values(model), model.optimizer
    cases = [
        ("epochs must be", (x, y), {"epochs": 0}),
        ("freeze_epochs must be", (x, y), {"freeze_epochs": 6}),
        ("layer_decay must be", (x, y), {"layer_decay": 0}),
        ("learning_rate must be", (x, y), {"learning_rate": -1.0}),
        ("unfreeze must name a layer", (x, y), {"unfreeze": "nothing"}),
        ("num_classes must be at least 4", (x, y), {"num_classes": 3}),
        ("labels span -1", (x, y - 1), {}),
        ("Received a fraction", (x, y + 0.5), {}),
        ("class ids", (x, np.array(["cat", "dog"] * 16)), {}),
        ("channels first", (x.transpose(0, 3, 1, 2), y), {}),
        ("equally long", (x, y[:-1]), {}),
        ("augment must be one of", (x, y), {"augment": "nothing"}),
    ]
    for message, data, arguments in cases:
        with pytest.raises(ValueError, match=message):
            recipes.fine_tune(model, data, verbose=0, **arguments)
    assert not changed(model, before) and model.optimizer is optimizer and len(trainable(model)) > 2


# LoRA


def test_lora_trains_low_rank_weights_and_the_head_only():
    model = attention_model()
    x, y = tokens()
    logits = model.predict(x, verbose=0)
    assert recipes.add_lora(model, 2, alpha=4) is model
    np.testing.assert_allclose(model.predict(x, verbose=0), logits, atol=1e-6)  # B begins at zero
    assert all("lora" in path or path.startswith("scores/") for path in trainable(model))
    assert len(trainable(model)) == 2 * 5 + 2  # four in attention, one Dense, the head
    before = values(model)
    model.fit(x, y, epochs=2, verbose=0)
    assert changed(model, before) == trainable(model)


def test_lora_merges_when_saved_and_can_be_taken_up_again(tmp_path):
    x, y = tokens()
    model = recipes.add_lora(attention_model(), 2)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings(record=True):
        again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    recipes.add_lora(again, 2)
    before = values(again)
    again.fit(x, y, epochs=2, verbose=0)
    assert changed(again, before) == trainable(again)


def test_lora_on_convolutions_and_refusals(tmp_path):
    model = tiny_resnet(4)
    for layer in model.layers:
        if layer.name.endswith("2_norm"):  # zero at the start of training from scratch: nothing behind it would learn
            layer.gamma.assign(np.ones(4))
    recipes.add_lora(model, 2)
    assert not any(layer.trainable for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    before = values(model)
    recipes.fit(model, images(), epochs=1, verbose=0)
    assert changed(model, before) == trainable(model) and "stem_conv/lora_kernel_a" in trainable(model)
    recipes.save(model, tmp_path / "model")
    with warnings.catch_warnings(record=True):
        again = recipes.load_model(tmp_path / "model")
    x = images()[0]
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    with pytest.raises(ValueError, match="has some"):
        recipes.add_lora(model, 2)
    with pytest.raises(ValueError, match="recipes.fit"):
        recipes.fine_tune(model, images())
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(inputs)
    plain = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="DepthwiseConv2D"):
        recipes.add_lora(plain)
    with pytest.raises(ValueError, match="rank must be"):
        recipes.add_lora(plain, 0)
