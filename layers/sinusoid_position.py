"""Where a token stands: by sines and cosines of its place."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class SinusoidPosition(keras.layers.Layer):
    """Adds to each token of a sequence sines and cosines of its place; nothing is learned.

    Args:
        max_length: Largest length of a sequence.
        temperature: Float > 1: the longest wave is `2 * pi * temperature` tokens.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`, `width` even.

    Returns:
        Float tensor of the same shape as `tokens`.

    Example:

    >>> np.array(SinusoidPosition(max_length=4)(np.zeros((1, 2, 4)))[0], "float64").round(2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.84, 0.54, 0.01, 1.0]]

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, max_length, temperature=10_000.0, **kwargs):
        super().__init__(**kwargs)
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1. Received: max_length={max_length}")
        self.max_length = max_length
        self.temperature = temperature

    def build(self, input_shape):
        width = input_shape[-1]
        if width % 2:
            raise ValueError(f"tokens must have an even width. Received: width {width}")
        self.embedding = sinusoids(self.max_length, width, self.temperature)

    def call(self, tokens):
        length = tokens.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"sequence length {length} exceeds max_length {self.max_length}: truncate, or build the model with a "
                "larger max_length."
            )
        rows = ops.convert_to_tensor(self.embedding)[: ops.shape(tokens)[1]]  # numpy takes no length that is a tensor
        return tokens + ops.cast(rows, tokens.dtype)

    def start_cache(self, batch, length, dtype):
        """Return the cache: there is nothing to remember."""
        return ()

    def decode(self, tokens, cache, position):
        """Return the tokens, the first of which stands at `position`, with their places."""
        rows = ops.slice(ops.convert_to_tensor(self.embedding), (position, 0), tokens.shape[1:])
        return tokens + ops.cast(rows, tokens.dtype), cache

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length, "temperature": self.temperature}


def sinusoids(length, width, temperature):
    """Return `(length, width)`: sine and cosine by turns, the waves longer and longer."""
    angles = np.arange(length)[:, None] * temperature ** (-np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width).astype("float32")
