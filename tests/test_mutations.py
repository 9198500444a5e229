"""The harness bites: a sound toy layer and a sound toy model pass, and each broken one fails the check meant for it."""

import keras
import numpy as np
import pytest

from recipes.training.recipe import builder, compile_model, head, set_recipe
from tests.cases import LayerCase, RecipeCase
from tests.harness import layers, recipes

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8")
LABELS = np.arange(6, dtype="int32") % 3


class Sound(keras.layers.Layer):
    """Scales each column.

    Args:
        start: Initial factor.
    """

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(
            name="factor", shape=input_shape[-1:], initializer=keras.initializers.Constant(self.start)
        )

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "start": self.start}


class LostArgument(Sound):
    def get_config(self):
        return keras.layers.Layer.get_config(self)


class ConfigWithoutSuper(Sound):
    def get_config(self):
        return {"start": self.start}


class ConfigChangedInBuild(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.start = float(input_shape[-1])


class DeadWeight(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.idle = self.add_weight(name="idle", shape=(1,))


class WrongSymbolicShape(Sound):
    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape, 1), x.dtype)


class FixedBatch(Sound):
    def call(self, x):
        return keras.ops.reshape(x * self.factor, (5, 4))


class RandomInference(Sound):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        return x * self.factor + keras.random.normal(keras.ops.shape(x), seed=self.seed, dtype=x.dtype)


class Float32Output(Sound):
    def call(self, x):
        return keras.ops.cast(x * self.factor, "float32")


class WrongGradient(Sound):
    def call(self, x):
        return x * keras.ops.stop_gradient(self.factor) + 0 * self.factor


class Unregistered(Sound):
    pass


for _class in [Sound, *Sound.__subclasses__()]:
    if _class is not Unregistered:
        keras.saving.register_keras_serializable("recipes")(_class)


def layer_case(layer):
    return LayerCase(layer.__name__, layer, {"start": 0.5}, X, learns=("factor",))


@pytest.mark.parametrize("check", layers.ANY_BACKEND, ids=lambda check: check.__name__)
def test_a_sound_layer_passes(check):
    check(layer_case(Sound))


@pytest.mark.parametrize(
    ("layer", "check"),
    [
        (LostArgument, layers.check_config),
        (ConfigWithoutSuper, layers.check_config),
        (ConfigChangedInBuild, layers.check_config_kept),
        (DeadWeight, layers.check_weights),
        (DeadWeight, layers.check_learns),
        (WrongSymbolicShape, layers.check_shapes),
        (FixedBatch, layers.check_unknown_batch),
        (RandomInference, layers.check_deterministic),
        (Float32Output, layers.check_precision),
        (WrongGradient, layers.check_gradient),
        (Unregistered, layers.check_loads),
    ],
    ids=lambda value: value.__name__,
)
def test_a_broken_layer_fails(layer, check):
    with pytest.raises((AssertionError, ValueError)):
        check(layer_case(layer))


def toy(*, rescale=True, named=True, float32_head=True, dead=False, seeded=False, plain=True, layer=None):
    """Return a builder: a small convolution network, sound by default."""

    @builder
    def network(input_shape, num_classes, *, variant="toy", task="classify", name="network"):
        inputs = keras.Input(input_shape, name="image")
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(inputs) if rescale else inputs
        initializer = keras.initializers.GlorotUniform(seed=1 if seeded else None)
        naming = {"name": "conv"} if named else {}
        x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=initializer, **naming)(x)
        if layer is not None:
            x = layer(name="extra")(x)
        x = keras.layers.GlobalAveragePooling2D(name="features")(x)
        if dead:
            idle = keras.layers.Dense(8, name="idle")(x)
            x = keras.layers.Add(name="sum")([x, keras.layers.Rescaling(0.0, name="nothing")(idle)])
            x = keras.layers.Identity(name="last")(x)
        if float32_head:
            outputs = head(x, num_classes, task)
        else:
            outputs = keras.layers.Dense(num_classes, kernel_initializer="zeros", name="logits")(x)
        model = compile_model(keras.Model(inputs, outputs, name=name), task, learning_rate=1e-2, weight_decay=0.0)
        if not plain:
            set_recipe(model, {**model.recipe, "sizes": (1, 2)})  # JSON makes a list of it
        return model

    return network


def recipe_case(**faults):
    return RecipeCase("toy", toy(**faults), (8, 8, 3), 3, IMAGES, LABELS, start=np.log(3), plain={})


@pytest.mark.parametrize(
    "check",
    [
        recipes.check_names,
        recipes.check_recipe,
        recipes.check_outputs,
        recipes.check_inputs,
        recipes.check_start,
        recipes.check_seed,
        recipes.check_batch,
        recipes.check_learns,
        recipes.check_outside,
        recipes.check_saves,
        recipes.check_clones,
        recipes.check_frozen,
    ],
    ids=lambda check: check.__name__,
)
def test_a_sound_model_passes(check):
    check(recipe_case())


@pytest.mark.parametrize(
    ("faults", "check"),
    [
        ({"named": False}, recipes.check_names),
        ({"rescale": False}, recipes.check_inputs),
        ({"float32_head": False}, recipes.check_bfloat16),
        ({"dead": True}, recipes.check_learns),
        ({"seeded": True}, recipes.check_seed),
        ({"plain": False}, recipes.check_recipe),
        ({"layer": RandomInference}, recipes.check_batch),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "-".join(value),
)
def test_a_broken_model_fails(faults, check):
    with pytest.raises(AssertionError):
        check(recipe_case(**faults))
