"""Brightness normalisation across channels, as in AlexNet."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class LocalResponseNorm(keras.layers.Layer):
    """Divides each value by a power of the energy of the channels around it.

    `x / (bias + alpha * s) ** beta`, where `s` is the sum of the squares of `size` neighbouring channels at the same
    place, fewer at the ends. torch's layer of this name divides `alpha` by `size` first; the paper does not. The
    defaults are the paper's.

    Args:
        size: Integer, odd: number of channels that are summed.
        alpha: Float, factor of the sum.
        beta: Float, the power.
        bias: Float > 0, added to the sum.

    Call arguments:
        inputs: Float tensor of shape `(batch, ..., channels)`.

    Returns:
        Float tensor of the shape of `inputs`.

    Example:

    >>> tuple(LocalResponseNorm()(np.ones((1, 4, 4, 8))).shape)
    (1, 4, 4, 8)

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, bias=2.0, **kwargs):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be an odd number >= 1. Received: size={size}")
        if bias <= 0:
            raise ValueError(f"bias must be > 0. Received: bias={bias}")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def call(self, inputs):
        channels, half = inputs.shape[-1], self.size // 2
        squares = ops.pad(ops.square(inputs), [[0, 0]] * (len(inputs.shape) - 1) + [[half, half]])
        energy = sum(squares[..., i : i + channels] for i in range(self.size))
        return inputs / (self.bias + self.alpha * energy) ** self.beta

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **config}
