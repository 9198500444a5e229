"""The training of `stylegan`: four kinds of updates in turn, two of them now and then."""

import keras
from keras import ops

from recipes.generative.adversarial import AdversarialModel, squared_norm, wide
from recipes.generative.augmentation import augment, draw_augmentation
from recipes.generative.gradients import input_gradient
from recipes.generative.phased import Phase, Phased
from recipes.generative.stylegan_networks import cut
from recipes.generative.two_optimizers import TwoOptimizers
from recipes.training.recipe import make_optimizer

R1_EVERY, PATH_LENGTH_EVERY = 16, 4  # steps from one to the next: Karras et al., 2020, appendix B, and train.py
PATH_LENGTH_DECAY = 0.01
STYLE_DECAY = 0.998  # of the average style
ADA_TARGET = 0.6  # Karras et al., 2020b, section 3.1


@keras.saving.register_keras_serializable("recipes")
class StyleGAN(Phased, AdversarialModel):
    """StyleGAN2. Each step updates the generator and the discriminator by the non-saturating loss; besides,

    - every 4th step the generator's path lengths are brought near their average: with `y` a random image and `w` the
      styles, `path_length * mean((length(d sum(G(w) * y) / d w) - average) ** 2)`;
    - every 16th step the discriminator's R1 penalty is applied, as in `GAN`.

    Both losses are multiplied by their interval, and both optimizers' rates and moments are those of as many updates fewer.

    With `augment`, the share of augmented examples adapts itself (ADA): it grows while the discriminator is too sure of
    the training data, that is, while the mean sign of its logits on them is above 0.6, and shrinks otherwise.

    Args:
        penalty: Float >= 0: the weight of R1.
        path_length: Float >= 0; 0 for none.
        mixing: Float in [0, 1]: share of the examples that take the styles from some layer on from another noise.
        ada_images: Number of training images in which the share of augmented examples can go from 0 to 1.
        generator, discriminator, data_shape, num_classes, ema, augment, **kwargs: As in `AdversarialModel`.

    Reference:
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958), sections 2.2 and 3;
        [Karras et al., 2020b](https://arxiv.org/abs/2006.06676), section 3.
    """

    def __init__(self, *args, penalty=0.01, path_length=0.0, mixing=0.0, ada_images=100_000, **kwargs):
        super().__init__(*args, **kwargs)
        self.penalty, self.path_length, self.mixing, self.ada_images = penalty, path_length, mixing, ada_images
        state = {"initializer": "zeros", "trainable": False, "aggregation": "mean"}
        self.mean_length = self.add_weight(shape=(), name="average_path_length", **state)
        self.mean_style = self.add_weight(shape=self.noise_shape, name="average_style", **state)
        self.probability = self.add_weight(shape=(), name="average_augmented_share", **state)
        self.r1, self.length = keras.metrics.Mean(name="r1"), keras.metrics.Mean(name="path_length")
        # past Keras' attribute tracking: their layers are those of the whole networks
        object.__setattr__(self, "parts", cut(self.generator))
        object.__setattr__(self, "average_parts", cut(self.average, "average_"))

    def make_optimizer(self, settings, **extra):
        def one(name, every):
            share = every / (every + 1) if every else 1.0
            changes = {
                "learning_rate": settings["learning_rate"] * share,
                "momentum": settings["momentum"] ** share,
                "beta_2": settings["beta_2"] ** share,
            }
            return make_optimizer({**settings, **changes}, name=name, **extra)

        generator = one("generator", PATH_LENGTH_EVERY if self.path_length else None)
        return TwoOptimizers(generator, one("discriminator", R1_EVERY if self.penalty else None))

    def phases(self):
        phases = [Phase("generator", "generator", self.generator_loss)]
        if self.path_length:
            phases.append(Phase("path_length", "generator", self.path_length_loss, every=PATH_LENGTH_EVERY))
        phases.append(Phase("discriminator", "discriminator", self.discriminator_loss))
        if self.penalty:
            phases.append(Phase("r1", "discriminator", self.r1_loss, every=R1_EVERY))
        return phases

    # From noise to images

    def styles(self, labels, batch, training=True):
        """Draw noise and return styles `(batch, layers, latent)`, some of them mixed."""
        mapping, _, count = self.parts

        def draw():
            noise = self.random_noise(batch)
            return mapping(noise if self.num_classes is None else [noise, labels], training=training)

        w = draw()
        if training:
            mean = ops.mean(ops.stop_gradient(w), axis=0)
            self.mean_style.assign(STYLE_DECAY * self.mean_style + (1 - STYLE_DECAY) * ops.cast(mean, "float32"))
        styles = ops.tile(w[:, None], (1, count, 1))
        if not (training and self.mixing and count > 1):
            return styles
        first = keras.random.randint((batch, 1), 1, count, seed=self.seed)  # the first layer that takes the other style
        mixed = keras.random.uniform((batch, 1), seed=self.seed) < self.mixing
        other = ops.logical_and(mixed, ops.arange(count)[None] >= first)  # (batch, layers)
        return ops.where(other[:, :, None], draw()[:, None], styles)

    def synthesise(self, styles, training=True):
        """Return what the generator makes of styles `(batch, layers, latent)`, float32."""
        _, synthesis, count = self.parts
        inputs = [styles[:, i] for i in range(count)]
        return wide(synthesis(inputs if count > 1 else inputs[0], training=training))

    def view(self, batch):
        if not self.augment:
            return lambda x: x
        drawn = draw_augmentation(self.augment, batch, self.data_shape, self.seed, ops.convert_to_tensor(self.probability))
        return lambda x: augment(x, drawn)

    # The updates

    def generator_loss(self, x, labels, training):
        batch = ops.shape(x)[0]
        fake = self.synthesise(self.styles(labels, batch, training), training)
        g_loss = ops.mean(ops.softplus(-self.judge(self.view(batch)(fake), labels, training)))
        self.g_loss.update_state(g_loss)
        if training:
            self.update_average()
        return g_loss

    def path_length_loss(self, x, labels, training):
        batch = (ops.shape(x)[0] + 1) // 2  # half of the batch, to save memory: section 3.2
        styles = self.styles(None if labels is None else labels[:batch], batch, training)
        lengths = self.path_lengths(styles, keras.random.normal((batch, *self.data_shape), seed=self.seed), training)
        mean = self.mean_length + PATH_LENGTH_DECAY * (ops.mean(lengths) - self.mean_length)
        if training:
            self.mean_length.assign(ops.stop_gradient(mean))
        self.length.update_state(ops.mean(lengths))
        every = PATH_LENGTH_EVERY if training else 1
        return every * self.path_length * ops.mean(ops.square(lengths - mean))

    def path_lengths(self, styles, direction, training=True):
        """Return the lengths `(batch,)` of the gradient of `sum(image * direction) / sqrt(pixels)` by the styles."""
        pixels = self.data_shape[0] * self.data_shape[1] if self.images else 1
        direction = direction / pixels**0.5

        def shown(styles):
            return self.synthesise(styles, training) * direction

        gradient = input_gradient(shown, styles, self.generator)
        return ops.sqrt(ops.mean(ops.sum(ops.square(gradient), axis=2), axis=1) + 1e-12)  # the root's slope at 0 is infinite

    def discriminator_loss(self, x, labels, training):
        batch = ops.shape(x)[0]
        fake = ops.stop_gradient(self.synthesise(self.styles(labels, batch, training), training))
        real_logits = self.judge(self.view(batch)(x), labels, training)
        fake_logits = self.judge(self.view(batch)(fake), labels, training)
        d_loss = ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))
        self.record(d_loss, real_logits, fake_logits)
        if training and self.augment:
            step = ops.sign(ops.mean(ops.sign(real_logits)) - ADA_TARGET) * ops.cast(batch, "float32") / self.ada_images
            self.probability.assign(ops.clip(self.probability + ops.stop_gradient(step), 0.0, 1.0))
        return d_loss

    def r1_loss(self, x, labels, training):
        view = self.view(ops.shape(x)[0])
        gradient = input_gradient(lambda x: self.judge(view(x), labels, training), x, self.discriminator)
        r1 = ops.mean(squared_norm(gradient))
        self.r1.update_state(r1)
        return (R1_EVERY if training else 1) * 0.5 * self.penalty * r1

    # Sampling

    def sample(self, n, *, labels=None, seed=None, truncation=1.0, batch_size=64):
        """Make new data, as other generative models do.

        Args:
            n: Number of samples.
            labels: Of a conditional model: a class id, or one for each sample; `None` takes the classes in turn.
            seed: Integer that fixes the samples, each one whatever `n` is; `None` for others each time.
            truncation: Float in [0, 1]: below 1 the styles are drawn towards the average one, which gives better
                samples that differ less.
            batch_size: Samples that are made at once.

        Returns:
            Float32 array `(n, *data_shape)`: images 0..255, or vectors in the units of the data.
        """
        if not 0 <= truncation <= 1:
            raise ValueError(f"truncation must be in [0, 1]. Received: truncation={truncation!r}")
        return self.draw(n, labels, seed, batch_size, truncation=float(truncation))

    def generate_batch(self, noise, labels, seed, truncation=1.0):
        mapping, synthesis, count = self.average_parts
        w = mapping(noise if self.num_classes is None else [noise, labels], training=False)
        mean = ops.convert_to_tensor(self.mean_style)
        w = mean + truncation * (ops.cast(w, "float32") - mean)
        return synthesis([w] * count if count > 1 else w, training=False)

    def get_config(self):
        names = ("penalty", "path_length", "mixing", "ada_images")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
