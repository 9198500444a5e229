"""Where a patch stands: by sines and cosines of its row and column."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class SinCosPosition(keras.layers.Layer):
    """Adds to each patch of a grid sines and cosines of its column and row; nothing is learned.

    Args:
        grid: `(rows, columns)` of the patches, which come row by row.
        temperature: Float > 1: the longest wave is `2 * pi * temperature` patches.

    Call arguments:
        tokens: Float tensor of shape `(batch, rows * columns, width)`, `width` a multiple of 4.

    Returns:
        Float tensor of the same shape as `tokens`.

    Example:

    >>> tuple(SinCosPosition((2, 3))(np.zeros((1, 6, 8))).shape)
    (1, 6, 8)

    Reference:
        [Beyer et al., 2022](https://arxiv.org/abs/2205.01580), section 3, as in big_vision's `posemb_sincos_2d`.
    """

    def __init__(self, grid, temperature=10_000.0, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.temperature = temperature

    def build(self, input_shape):
        length, width = input_shape[1:]
        if width % 4:
            raise ValueError(f"tokens must have a width that is a multiple of 4. Received: width {width}")
        if length != self.grid[0] * self.grid[1]:
            raise ValueError(f"grid must have as many places as there are tokens, {length}. Received: grid={self.grid}")
        self.embedding = sincos_2d(self.grid, width, self.temperature)

    def call(self, tokens):
        return tokens + ops.cast(self.embedding, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "temperature": self.temperature}


def sincos_2d(grid, width, temperature):
    """Return `(rows * columns, width)`: a quarter each of sin and cos of the column, sin and cos of the row."""
    frequencies = temperature ** -np.linspace(0, 1, width // 4)
    rows, columns = (axis.reshape(-1, 1) * frequencies for axis in np.mgrid[: grid[0], : grid[1]])
    waves = [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)]
    return np.concatenate(waves, axis=1).astype("float32")
