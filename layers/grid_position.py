"""Where a token stands: in a text, or in the rows and columns of the image after it."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class GridPosition(keras.layers.Layer):
    """Adds to the tokens of a text one learned vector a place, to those of an image after it one a row and one a column.

    Weight decay spares the three tables.

    Args:
        length: Number of places of the text.
        grid: `(rows, columns)` of the image, whose tokens come row by row.
        stddev: Standard deviation of the normal initializer.

    Call arguments:
        tokens: Float tensor `(batch, n, width)`, `n` at most `length + rows * columns`.

    Returns:
        Float tensor of the same shape as `tokens`.

    Example:

    >>> tuple(GridPosition(length=3, grid=(2, 2))(np.zeros((2, 7, 8))).shape)
    (2, 7, 8)

    Reference:
        [Ramesh et al., 2021](https://arxiv.org/abs/2102.12092), appendix B.1.
    """

    def __init__(self, length, grid, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"length must be at least 1. Received: length={length}")
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"grid must be (rows, columns), both at least 1. Received: grid={grid}")
        self.length = length
        self.grid = tuple(grid)
        self.stddev = stddev

    def build(self, input_shape):
        sizes = {"text": self.length, "row": self.grid[0], "column": self.grid[1]}
        self.text, self.row, self.column = (
            self.add_weight(
                name=f"{name}_position_embedding",
                shape=(size, input_shape[-1]),
                initializer=keras.initializers.RandomNormal(stddev=self.stddev),
            )
            for name, size in sizes.items()
        )

    def table(self):
        """Return the vectors of all places, `(length + rows * columns, width)`."""
        image = ops.expand_dims(ops.convert_to_tensor(self.row), 1) + ops.convert_to_tensor(self.column)
        return ops.concatenate([self.text, ops.reshape(image, (-1, image.shape[-1]))], axis=0)

    def call(self, tokens):
        places = self.length + self.grid[0] * self.grid[1]
        if tokens.shape[1] is not None and tokens.shape[1] > places:
            raise ValueError(f"tokens must be at most {places} long. Received: shape {tuple(tokens.shape)}")
        return tokens + self.table()[: ops.shape(tokens)[1]]

    def start_cache(self, batch, length, dtype=None):
        """Return `()`: nothing to remember."""
        return ()

    def decode(self, tokens, cache, position):
        """Add the vectors of the places from `position` on to the tokens; return `(outputs, cache)`."""
        vectors = ops.slice(self.table(), (position, 0), tokens.shape[1:])
        return tokens + ops.cast(vectors, tokens.dtype), cache

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "length": self.length, "grid": list(self.grid), "stddev": self.stddev}
