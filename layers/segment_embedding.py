"""Which of two texts a token belongs to."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class SegmentEmbedding(keras.layers.Layer):
    """Gives each token the vector of the text that it belongs to, of two that stand in one row: `a separator b separator`.

    Args:
        width: Length of a vector.
        separator_id: Token id that ends a text. What follows the first one is the second text, except for padding.
            `None` if a row is always one text.
        padding_id: Token id that fills rows up, or `None`.
        stddev: Standard deviation of the normal initializer.

    Call arguments:
        ids: Integer tensor of shape `(batch, length)`.

    Returns:
        Float tensor of shape `(batch, length, width)`.

    Example:

    >>> layer = SegmentEmbedding(4, separator_id=3)
    >>> found = keras.ops.convert_to_numpy(layer(np.array([[2, 9, 3, 9, 3, 0]])))
    >>> (found[0] == found[0, 0]).all(axis=-1).tolist()
    [True, True, True, False, False, True]

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), figure 2.
    """

    def __init__(self, width, separator_id=None, padding_id=0, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"width must be at least 1. Received: width={width}")
        self.width = width
        self.separator_id = separator_id
        self.padding_id = padding_id
        self.stddev = stddev

    def build(self, input_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(2, self.width),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
        )

    def call(self, ids):
        if self.separator_id is None:
            second = ops.zeros_like(ids, dtype="bool")
        else:
            ends = ops.cast(ops.equal(ids, self.separator_id), "int32")
            second = ops.cumsum(ends, axis=1) - ends > 0  # (batch, length)
            if self.padding_id is not None:
                second = second & ops.not_equal(ids, self.padding_id)
        return ops.where(ops.expand_dims(second, -1), self.embedding[1], self.embedding[0])

    def compute_output_spec(self, ids):
        return keras.KerasTensor((*ids.shape, self.width), dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "separator_id": self.separator_id,
            "padding_id": self.padding_id,
            "stddev": self.stddev,
        }
