"""Proof that the checks of generative models bite: a sound toy passes every one, and each mutation of it is caught."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from recipes.generative.model import GenerativeModel
from recipes.training.recipe import builder, compile_model
from tests.generative_cases import KINDS, PICTURES, GenerativeCase
from tests.harness import generative

SHAPE = (8, 8, 1)


@keras.saving.register_keras_serializable("tests")
class Toy(GenerativeModel):
    """A picture for each class, learned from noisy ones, and noise on it."""

    def __init__(self, data_shape, num_classes, network, spread=0.1, **kwargs):
        super().__init__(data_shape, num_classes, **kwargs)
        self.network, self.spread = network, spread
        self.seed = keras.random.SeedGenerator()

    def picture(self, labels):
        return ops.reshape(self.network(ops.one_hot(labels, self.num_classes)), (-1, *self.data_shape))

    def batch_loss(self, x, labels, training):
        noise = self.spread * keras.random.normal(ops.shape(x), seed=self.seed)
        return ops.mean(ops.square(ops.cast(self.picture(labels), "float32") - x - noise))

    def generate_batch(self, noise, labels, seed):
        return ops.cast(self.picture(labels), "float32") + self.spread * noise

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "spread": self.spread}


def mutant(cls):
    """Register a class that a test defines."""
    return keras.saving.register_keras_serializable("tests")(cls)


@mutant
class Unseeded(Toy):
    def noise(self, generator):
        return np.random.default_rng().standard_normal(self.noise_shape, "float32")


@mutant
class Neighbours(Toy):
    def generate_batch(self, noise, labels, seed):
        made = super().generate_batch(noise, labels, seed)
        return made + ops.mean(made, axis=0, keepdims=True)


@mutant
class LabelsIgnored(Toy):
    def generate_batch(self, noise, labels, seed):
        return super().generate_batch(noise, 0 * labels, seed)


@mutant
class Unclipped(Toy):
    def to_data(self, x):
        return (x * 9 + 1) * 127.5


@mutant
class Dead(Toy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.spare = self.add_weight(name="spare", shape=(3,), initializer="ones")

    def batch_loss(self, x, labels, training):
        return super().batch_loss(x, labels, training) + 0 * ops.sum(self.spare)


@mutant
class Counting(Toy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches = self.add_weight(name="batches", shape=(), initializer="zeros", trainable=False)

    def batch_loss(self, x, labels, training):
        self.batches.assign(self.batches + 1)
        return super().batch_loss(x, labels, training)


@mutant
class LostArgument(Toy):
    def get_config(self):
        return {key: value for key, value in super().get_config().items() if key != "spread"}


@mutant
class LostMoments(Toy):
    def compile_from_config(self, config):
        compile_model(self, "generate", learning_rate=1e-2, schedule=None)


@mutant
class ByType(Toy):
    def to_network(self, x):
        return super().to_network(x // 2 if "int" in keras.backend.standardize_dtype(x.dtype) else x / 2)


@mutant
class OwnRandomness(Toy):
    def batch_loss(self, x, labels, training):
        return super().batch_loss(x + np.random.default_rng().normal(), labels, training)


@mutant
class SamplesMove(Toy):
    def draw(self, *args, **settings):
        kernel = self.network.weights[0]
        kernel.assign(kernel * 1.01)
        return super().draw(*args, **settings)


@mutant
class NotFinite(Toy):
    def batch_loss(self, x, labels, training):
        return super().batch_loss(x, labels, training) + ops.log(-1.0)


def toy(model=Toy):
    """Return a builder of `model`."""

    @builder
    def build(input_shape, num_classes=None, *, spread=0.3, learning_rate=1e-2, name="toy"):
        inputs = keras.Input((num_classes,), name="label")
        network = keras.Model(inputs, keras.layers.Dense(64, name="out")(inputs), name="network")
        made = model(input_shape, num_classes, network, spread=spread, name=name)
        return compile_model(made, "generate", learning_rate=learning_rate, schedule=None)

    return build


def case(model=Toy):
    return GenerativeCase(model.__name__, toy(model), SHAPE, PICTURES, KINDS, 3)


@pytest.fixture(scope="module")
def sound():
    return case()


# Saving to a folder finds the builder by its public name, which a toy has not.
CHECKS = [c for c in generative.OF_ROW + generative.OF_FIRST_ROW if c is not generative.check_saves_folder]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_model_passes(check, sound):
    check(sound)


@pytest.mark.parametrize(
    "model, check, message",
    [
        (Unseeded, generative.check_samples, "the same seed gives other samples"),
        (Unclipped, generative.check_samples, "samples are in"),
        (SamplesMove, generative.check_samples, "the same seed gives other samples|sampling changes weights"),
        (Neighbours, generative.check_labels, "depends on the labels of its neighbours"),
        (LabelsIgnored, generative.check_labels, "the labels make no difference"),
        (Dead, generative.check_learns, "spare gets no gradient"),
        (Counting, generative.check_learns, "batches changes and is not trainable"),
        (NotFinite, generative.check_learns, "the losses are"),
        (LostArgument, generative.check_saves, "other samples"),
        (LostMoments, generative.check_saves, "the optimizer has . variables"),
        (ByType, generative.check_inputs, "of the same numbers as floats"),
        (OwnRandomness, generative.check_seed, "the same seed gives another weight"),
    ],
)
def test_a_mutated_model_is_caught(model, check, message):
    with pytest.raises(AssertionError, match=message):
        check(case(model))


def test_a_loss_of_another_size_under_mixed_precision_is_caught():
    strict = dataclasses.replace(case(), bfloat16=1e-9)
    with pytest.raises(AssertionError, match="the loss is"):
        generative.check_bfloat16(strict)
