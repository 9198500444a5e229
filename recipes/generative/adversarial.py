"""A generator and a discriminator as one model: what all adversarial families share."""

import keras
from keras import ops

from recipes.generative.augmentation import augment, draw_augmentation
from recipes.generative.averaging import averaged_copy, update_average
from recipes.generative.model import GenerativeModel
from recipes.generative.two_optimizers import TwoOptimizers
from recipes.training.recipe import make_optimizer


class AdversarialModel(GenerativeModel):
    """Base of the models of a generator and a discriminator, with an average of the generator that samples come from.

    The networks take `(noise or data)`, or `(noise or data, labels)` if the model has classes, and their layers are named
    `generator_...` and `discriminator_...`.

    Args:
        generator: `keras.Model` from noise `(batch, latent)` to data in the scale of the networks.
        discriminator: `keras.Model` from such data to logits `(batch, 1)`, large for real ones.
        ema: Decay of the average of the generator.
        augment: Names of the augmentations of what the discriminator sees, real and fake, as `augmentation.augment`
            knows them.
        data_shape, num_classes, **kwargs: As in `GenerativeModel`.
    """

    def __init__(self, generator, discriminator, data_shape, num_classes=None, ema=0.999, augment=(), **kwargs):
        super().__init__(data_shape, num_classes, **kwargs)
        self.generator, self.discriminator = generator, discriminator
        self.average = averaged_copy(generator)
        self.average_steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="average_steps")
        self.ema = ema
        self.augment = tuple(augment)
        self.noise_shape = tuple(generator.inputs[0].shape[1:])
        self.seed = keras.random.SeedGenerator()
        self.d_loss = keras.metrics.Mean(name="d_loss")
        self.g_loss = keras.metrics.Mean(name="g_loss")
        self.d_accuracy = keras.metrics.Mean(name="d_accuracy")

    def make_optimizer(self, settings, **extra):
        return TwoOptimizers(*(make_optimizer(settings, name=name, **extra) for name in ("generator", "discriminator")))

    def random_noise(self, batch):
        """Return standard normal noise `(batch, latent)` for a step of training."""
        return keras.random.normal((batch, *self.noise_shape), seed=self.seed)

    def generate(self, noise, labels, training):
        """Return what the generator makes of noise, float32 `(batch, *data_shape)`."""
        inputs = noise if self.num_classes is None else [noise, labels]
        return wide(self.generator(inputs, training=training))

    def view(self, batch):
        """Return a function that augments data `(batch, *data_shape)`; drawn once, it always does the same.

        Draw it outside of `frozen` and of `input_gradient`: what is random in there would not move the seed.
        """
        if not self.augment:
            return lambda x: x
        drawn = draw_augmentation(self.augment, batch, self.data_shape, self.seed)
        return lambda x: augment(x, drawn)

    def judge(self, x, labels, training=True):
        """Return the discriminator's logits of data, float32 `(batch,)`."""
        inputs = x if self.num_classes is None else [x, labels]
        return wide(self.discriminator(inputs, training=training))[:, 0]

    def record(self, d_loss, real, fake):
        """Update the discriminator's metrics. `d_accuracy` is the share of pairs whose real one seems more real."""
        self.d_loss.update_state(d_loss)
        self.d_accuracy.update_state(ops.mean(ops.cast(real > fake, "float32")))

    def update_average(self):
        """Move the average of the generator; once a step in which it learns."""
        update_average(self.average, self.generator, self.average_steps, self.ema)

    def generate_batch(self, noise, labels, seed):
        inputs = noise if self.num_classes is None else [noise, labels]
        return self.average(inputs, training=False)

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "ema": self.ema,
            "augment": list(self.augment),
        }


def squared_norm(gradient):
    """Return the squared length of each example of a gradient `(batch, ...)`: `(batch,)`."""
    return ops.sum(ops.square(wide(gradient)), axis=tuple(range(1, len(gradient.shape))))


def wide(x):
    """Return a tensor as float32, or float64 if it is: losses lose too much in bfloat16."""
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")
