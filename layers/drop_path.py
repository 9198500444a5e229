"""Stochastic depth."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class DropPath(keras.layers.Layer):
    """Drops the whole residual branch of a random share of the examples while training.

    Put it on the branch before it is added to its shortcut. What is kept is scaled by `1 / (1 - rate)`, so that the
    expected sum stays the same. Outside training it does nothing.

    Args:
        rate: Float in `[0, 1)`: the share of examples whose branch is dropped.
        seed: Integer, or `None` for a random one.

    Call arguments:
        inputs: Float tensor of shape `(batch, ...)`.
        training: Whether to drop.

    Returns:
        Float tensor of the shape of `inputs`.

    Example:

    >>> layer = DropPath(0.5, seed=0)
    >>> tuple(layer(np.ones((4, 2))).shape)
    (4, 2)

    Reference:
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382), section 3.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        keep = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(keep, inputs.dtype) / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
