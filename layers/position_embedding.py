"""Where a token stands: learned."""

import keras


@keras.saving.register_keras_serializable("recipes")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector per position to a sequence of tokens.

    Name the layer `"position_embedding"`: weight decay spares it then.

    Args:
        stddev: Standard deviation of the normal initializer. BERT and ViT both use 0.02.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`; `length` must be static.

    Returns:
        Float tensor of the same shape as `tokens`.

    Example:

    >>> tuple(PositionEmbedding()(np.zeros((2, 5, 8))).shape)
    (2, 5, 8)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev

    def build(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(f"tokens must have a known length and width. Received: shape {tuple(input_shape)}")
        self.embedding = self.add_weight(
            name="embedding",
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
        )

    def call(self, tokens):
        return tokens + self.embedding

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}
