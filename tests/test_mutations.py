"""Proof that the harness bites: a sound layer and a sound builder pass every check, and each mutation of them is caught."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import ops

from recipes.layers import DropPath
from recipes.training.recipe import builder, check_choice, check_classes, compile_model, head, set_recipe
from tests.cases import IMAGES, LABELS, ROWS, FamilyCase, LayerCase, RecipeCase
from tests.harness import layers, recipes

# ----------------------------------------------------------------------------------------------------------- layers


def register(layer):
    """Register a class that a test defines."""
    return keras.saving.register_keras_serializable("recipes")(layer)


@register
class Mix(keras.layers.Layer):
    """A dense layer of our own.

    Args:
        units: Length of the output.
        gain: Factor of the output.
    """

    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units = units
        self.gain = gain

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer="glorot_uniform")

    def call(self, x, training=False):
        return self.gain * ops.matmul(x, self.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "gain": self.gain}


SOUND_LAYER = LayerCase("mix", Mix, {"units": 3, "gain": 0.5}, ROWS, learns=("kernel",), bad=(({"units": 0}, "units"),))


class LostArgument(Mix):
    def get_config(self):
        config = super().get_config()
        del config["gain"]
        return config


class ConfigWithoutSuper(Mix):
    def get_config(self):
        return {"units": self.units, "gain": self.gain}


class ChangedArgument(Mix):
    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(units, 2 * gain, **kwargs)


class ConfigChangedInBuild(Mix):
    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.gain / input_shape[-1]


class ConfigNotJson(Mix):
    def get_config(self):
        return {**super().get_config(), "extra": object()}


class NotRegistered(Mix):
    pass


@register
class Unexplained(Mix):
    """A dense layer whose arguments nobody explains."""


@register
class OtherSymbolicShape(Mix):
    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units + 1)


@register
class OtherSymbolicDtype(Mix):
    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor((*x.shape[:-1], self.units), dtype="float16")


@register
class BatchOfFirstCall(Mix):
    def build(self, input_shape):
        super().build(input_shape)
        self.batch = input_shape[0]

    def call(self, x, training=False):
        return super().call(ops.reshape(x, (self.batch or 12, x.shape[-1])))


@register
class Float32Output(Mix):
    def call(self, x, training=False):
        return ops.cast(super().call(x), "float32")


@register
class Bfloat16Weights(Mix):
    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), dtype=self.compute_dtype)


@register
class DeadWeight(Mix):
    def build(self, input_shape):
        super().build(input_shape)
        self.unused = self.add_weight(name="unused", shape=(self.units,), initializer="zeros")


@register
class StoppedGradient(Mix):
    def call(self, x, training=False):
        return super().call(ops.stop_gradient(x))


@register
class RandomInference(Mix):
    def call(self, x, training=False):
        return super().call(x) + keras.random.normal((self.units,))


@register
class RandomTraining(Mix):
    def call(self, x, training=False):
        return super().call(x) + (keras.random.normal((self.units,)) if training else 0)


@register
class UnseededNoise(DropPath):
    """Noise that no seed fixes.

    Args:
        rate: Share.
        seed: Not used.
    """

    def call(self, inputs, training=False):
        noise = np.random.default_rng().normal(size=inputs.shape).astype("float32")
        return inputs + noise if training else inputs


@register
class LateWeight(Mix):
    def build(self, input_shape):
        super().build(input_shape)
        self.statistic = self.add_weight(name="statistic", shape=(), trainable=False)


@register
class SilentArgument(Mix):
    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(max(1, units), gain, **kwargs)


NOISE = LayerCase("noise", UnseededNoise, {"rate": 0.5, "seed": 1}, ROWS, random=True)


@pytest.mark.parametrize("check", layers.ANY_BACKEND + layers.TENSORFLOW, ids=lambda check: check.__name__)
def test_a_sound_layer_passes(check):
    check(SOUND_LAYER)


@pytest.mark.parametrize(
    "layer, check, message",
    [
        (LostArgument, layers.check_config, "lost gain"),
        (ConfigWithoutSuper, layers.check_config, "lost name"),
        (ChangedArgument, layers.check_config, "changed gain"),
        (ConfigNotJson, layers.check_config, "not JSON serializable|object"),
        (ConfigChangedInBuild, layers.check_config_kept, "changed the configuration"),
        (ConfigChangedInBuild, layers.check_round_trip, "another layer|something else"),
        (NotRegistered, layers.check_loads, "not registered"),
        (Unexplained, layers.check_arguments, "does not explain units"),
        (OtherSymbolicShape, layers.check_shapes, "symbolic"),
        (OtherSymbolicDtype, layers.check_shapes, "symbolic float16"),
        (BatchOfFirstCall, layers.check_unknown_batch, "reshape|values|batch"),
        (Float32Output, layers.check_precision, "output is float32"),
        (Bfloat16Weights, layers.check_precision, "stored as bfloat16"),
        (DeadWeight, layers.check_weights, "unused"),
        (LateWeight, layers.check_weights, "statistic"),
        (StoppedGradient, layers.check_gradient, "differs from finite differences"),
        (RandomInference, layers.check_deterministic, "inference is random"),
        (RandomTraining, layers.check_deterministic, "not what the row says"),
        (SilentArgument, layers.check_bad_arguments, "accepted"),
    ],
)
def test_a_mutated_layer_is_caught(layer, check, message):
    with pytest.raises((AssertionError, TypeError, ValueError, *_backend_errors()), match=message):
        check(dataclasses.replace(SOUND_LAYER, layer=layer))


def test_a_dead_weight_of_a_layer_is_caught():
    with pytest.raises(AssertionError, match="unused gets no gradient"):
        layers.check_learns(dataclasses.replace(SOUND_LAYER, layer=DeadWeight, learns=("kernel", "unused")))


def test_noise_without_a_seed_is_caught():
    with pytest.raises(AssertionError, match="same seed gives another"):
        layers.check_seed(NOISE)


@pytest.mark.parametrize(
    "arguments, message", [({"units": 3}, "no value for gain"), ({"units": 3, "gain": 1.0}, "its default")]
)
def test_a_row_that_tries_too_little_is_caught(arguments, message):
    with pytest.raises(AssertionError, match=message):
        layers.check_arguments(dataclasses.replace(SOUND_LAYER, arguments=arguments))


def _backend_errors():
    if keras.backend.backend() != "tensorflow":
        return ()
    import tensorflow as tf

    return (tf.errors.OpError,)


# --------------------------------------------------------------------------------------------------------- builders


def toy(mutation=""):
    """Return a small builder that is sound, but for `mutation`."""

    @builder
    def toy(
        input_shape, num_classes, *, variant="only", weights=None, width=8, task="classify", dropout=0.1,
        label_smoothing=0.1, learning_rate=5e-3, weight_decay=0.05, name="toy",
    ):  # fmt: skip
        """Build a toy.

        Args:
            input_shape: Shape.
            num_classes: Classes.
            variant: The only one.
            weights: None.
            width: Units.
            task: Task.
            dropout: Fraction.
            label_smoothing: Share.
            learning_rate: Rate.
            weight_decay: Decay.
            name: Name.

        Returns:
            Model.

        Raises:
            ValueError: If an argument is out of its range.

        Example:

        >>> toy((8, 8, 3), 3)

        Reference:
            None.
        """
        if mutation != "a bad argument accepted":
            check_choice("variant", variant, ("only",))
        check_classes(num_classes, task)
        seed = 1 if mutation == "a constant seed" else None
        kernel = keras.initializers.HeNormal(seed=seed)
        inputs = keras.Input(input_shape, name="image")
        x = inputs
        if mutation != "a dropped rescaling":
            x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescale")(x)
        x = keras.layers.Conv2D(width, 3, use_bias=False, kernel_initializer=kernel, name="conv")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
        x = keras.layers.Activation("relu", name=None if mutation == "an unnamed layer" else "relu")(x)
        if mutation == "an unnamed layer with weights":
            x = keras.layers.Conv2D(width, 1)(x)
        if mutation in MUTANTS:
            x = MUTANTS[mutation](name="mutant")(x)
        x = keras.layers.Flatten(name="flat")(x)
        x = keras.layers.Dense(4 * width, "relu", kernel_initializer=kernel, name="dense")(x)
        x = keras.layers.Dropout(dropout, name="features")(x)
        if mutation == "a layer between features and logits":
            x = keras.layers.Activation("tanh", name="between")(x)
        if mutation == "a head in the policy's dtype":
            outputs = keras.layers.Dense(num_classes, kernel_initializer="zeros", name="logits")(x)
        elif mutation == "a large head":
            outputs = keras.layers.Dense(num_classes, kernel_initializer="he_normal", dtype="float32", name="logits")(x)
        elif mutation == "a softmax":
            outputs = keras.layers.Dense(num_classes, "softmax", dtype="float32", name="logits")(x)
        else:
            outputs = head(x, num_classes, task)
        model = keras.Model(inputs, outputs, name=name)
        if mutation == "a changed global":
            keras.config.set_epsilon(1e-5)
        if mutation == "numpy seeded":
            np.random.seed(0)
        compile_model(model, task, label_smoothing=label_smoothing, learning_rate=learning_rate, weight_decay=weight_decay)
        if mutation == "a recipe that is not JSON":
            set_recipe(model, {**model.recipe, "sizes": (1, 2)})  # JSON makes a list of it
        if mutation == "no learning":
            model.optimizer.learning_rate = 0.0
        return model

    return toy


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return 1 * x


@register
class Dead(keras.layers.Layer):
    """Owns a weight that the output does not depend on."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(2, input_shape[-1]), initializer="ones")

    def call(self, x):
        return x + 0 * ops.sum(self.scale)


@register
class Counting(keras.layers.Layer):
    """Changes a weight that is not trainable, frozen or not, and not named as a running statistic."""

    def build(self, input_shape):
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.count.assign(self.count + 1)
        return x


@register
class NeighbourDependent(keras.layers.Layer):
    """Subtracts the mean of the batch, in inference too."""

    def call(self, x):
        return x - 0.5 * ops.mean(x, axis=0, keepdims=True)


@register
class OnlyForCpu(keras.layers.Layer):
    """Uses an operation without a GPU kernel."""

    def call(self, x):
        import tensorflow as tf

        pooled = tf.nn.fractional_max_pool(x, [1.0, 1.4, 1.4, 1.0], seed=1)[0]
        return x + 0 * ops.max(pooled)


@register
class NotANumber(keras.layers.Layer):
    """Divides 0 by 0."""

    def call(self, x):
        return ops.log(ops.minimum(x, 0.0) - 1.0)


@register
class Blocking(keras.layers.Layer):
    """Lets nothing of the image through."""

    def call(self, x):
        return 0 * x


@register
class Coarse(keras.layers.Layer):
    """Loses half of the values in a dtype narrower than float32."""

    def call(self, x):
        return x if self.compute_dtype == "float32" else 3 * x


MUTANTS = {
    "an unregistered class": Unregistered,
    "a dead weight": Dead,
    "a weight that changes when frozen": Counting,
    "an output that depends on the neighbours": NeighbourDependent,
    "an operation without a GPU kernel": OnlyForCpu,
    "an output that is not finite": NotANumber,
    "a model that cannot learn": Blocking,
    "another result under mixed precision": Coarse,
}


def case(mutation=""):
    return RecipeCase(mutation or "sound", toy(mutation), (8, 8, 3), 3, IMAGES, LABELS, start=math.log(3))


def family(mutation="", **changes):
    def space(hp):
        return {"width": hp.Int("width", 4, 8)}

    sound = FamilyCase(
        toy(mutation),
        space,
        shape=(8, 8, 3),
        classes=3,
        presets={"only": 9_579},
        small={},
        small_shape=(8, 8, 3),
        bad=(({"variant": "other"}, "variant"), ({"num_classes": 1}, "num_classes")),
    )
    return dataclasses.replace(sound, **changes)


@pytest.fixture(autouse=True)
def same_epsilon():
    before = keras.config.epsilon()
    yield
    keras.config.set_epsilon(before)


@pytest.fixture(scope="module")
def sound():
    return case()


# Saving to a folder and swapping the head find the builder by its public name, which a toy has not.
@pytest.mark.parametrize(
    "check",
    [c for c in recipes.OF_ROW + recipes.OF_FIRST_ROW if c is not recipes.check_saves_folder],
    ids=lambda c: c.__name__,
)
def test_a_sound_recipe_passes(check, sound):
    check(sound)


def test_a_sound_family_passes():
    for check in (recipes.check_signature, recipes.check_bad_arguments, recipes.check_space):
        check(family())
    recipes.check_preset(family(), "only")


@pytest.mark.parametrize(
    "mutation, check, message",
    [
        ("an unnamed layer", recipes.check_names, "no name of its own"),
        ("an unnamed layer with weights", recipes.check_names, "no name of its own"),
        ("a layer between features and logits", recipes.check_names, "does not feed"),
        ("a recipe that is not JSON", recipes.check_recipe, "not plain JSON"),
        ("a head in the policy's dtype", recipes.check_bfloat16, "policy's dtype"),
        ("another result under mixed precision", recipes.check_bfloat16, "first losses"),
        ("an unregistered class", recipes.check_saves, "does not load"),
        ("a dropped rescaling", recipes.check_inputs, "scale the raw inputs"),
        ("a dead weight", recipes.check_learns, "mutant/scale gets no gradient"),
        ("a weight that changes when frozen", recipes.check_learns, "is not trainable"),
        ("a weight that changes when frozen", recipes.check_frozen, "is frozen and changed"),
        ("a constant seed", recipes.check_seed, "another seed gives the same"),
        ("a large head", recipes.check_start, "loss starts at"),
        ("an output that is not finite", recipes.check_outputs, "not finite"),
        ("an output that depends on the neighbours", recipes.check_batch, "alone an example"),
        ("a model that cannot learn", recipes.check_overfits, "the loss goes from"),
        ("no learning", recipes.check_learns, "does not change"),
        ("a changed global", recipes.check_outside, "epsilon"),
        ("numpy seeded", recipes.check_outside, "numpy's random state"),
        ("an operation without a GPU kernel", recipes.check_gpu, "no GPU kernel for FractionalMaxPool"),
    ],
)
def test_a_mutated_recipe_is_caught(mutation, check, message):
    with pytest.raises(AssertionError, match=message):
        check(case(mutation))


def test_a_start_that_is_not_guessing_is_caught():
    with pytest.raises(AssertionError, match="loss starts at"):
        recipes.check_start(dataclasses.replace(case(), start=math.log(4)))


@pytest.mark.parametrize(
    "changes, check, message",
    [
        ({"space": lambda hp: {"wdith": hp.Int("wdith", 4, 8)}}, recipes.check_space, "wdith"),
        ({"space": lambda hp: {"width": 8}}, recipes.check_space, "chooses nothing"),
        ({"presets": {"only": 9_580}}, lambda f: recipes.check_preset(f, "only"), "9579 parameters, recorded 9580"),
        ({"builder": toy("a bad argument accepted")}, recipes.check_bad_arguments, "accepted"),
        ({"bad": (({"num_classes": 1}, "classes"),)}, recipes.check_bad_arguments, "does not name classes"),
    ],
)
def test_a_mutated_family_is_caught(changes, check, message):
    with pytest.raises(AssertionError, match=message):
        check(family(**changes))


def test_a_signature_without_rules_is_caught():
    def loose(input_shape, num_classes, width=8, **kwargs):
        """Build."""

    def mutable(input_shape, num_classes, *, variant="a", weights=None, task="classify", depths=[1], name="toy"):  # noqa: B006
        """Build."""

    def silent(input_shape, num_classes, *, variant="a", weights=None, task="classify", name="toy"):
        """Build."""

    for function, message in ((loose, "kwargs"), (mutable, "not plain"), (silent, "does not explain")):
        with pytest.raises(AssertionError, match=message):
            recipes.check_signature(family(builder=function))
