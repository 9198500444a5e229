"""Where a token stands: learned."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector per position to a sequence of tokens.

    Name the layer `"position_embedding"`: weight decay spares it then.

    Args:
        stddev: Standard deviation of the normal initializer. BERT and ViT both use 0.02.
        length: Number of positions, for sequences that may be shorter; `None` for that of the input, which must be known.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.

    Returns:
        Float tensor of the same shape as `tokens`.

    Example:

    >>> tuple(PositionEmbedding()(np.zeros((2, 5, 8))).shape)
    (2, 5, 8)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, stddev=0.02, length=None, **kwargs):
        super().__init__(**kwargs)
        if length is not None and length < 1:
            raise ValueError(f"length must be at least 1, or None. Received: length={length}")
        self.stddev = stddev
        self.length = length

    def build(self, input_shape):
        length, width = self.length or input_shape[1], input_shape[2]
        if length is None or width is None:
            raise ValueError(
                f"tokens must have a known length and width, or pass length=. Received: shape {tuple(input_shape)}"
            )
        self.embedding = self.add_weight(
            name="embedding",
            shape=(length, width),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
        )

    def call(self, tokens):
        if self.length is None:
            return tokens + self.embedding
        if tokens.shape[1] is not None and tokens.shape[1] > self.length:
            raise ValueError(f"tokens must be at most length={self.length} long. Received: shape {tuple(tokens.shape)}")
        return tokens + self.embedding[: ops.shape(tokens)[1]]

    def start_cache(self, batch, length, dtype=None):
        """Return `()`: nothing to remember."""
        return ()

    def decode(self, tokens, cache, position):
        """Add the vectors of the places from `position` on to the tokens; return `(outputs, cache)`."""
        table = ops.convert_to_tensor(self.embedding)
        size = (tokens.shape[1], table.shape[1])
        return tokens + ops.cast(ops.slice(table, (position, 0), size), tokens.dtype), cache

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "length": self.length}
