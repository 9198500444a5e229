"""The token that stands for the whole sequence."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class ClassToken(keras.layers.Layer):
    """Puts one learned token before a sequence; what becomes of it stands for the whole.

    Name the layer `"class_token"`: weight decay spares it then.

    Args:
        stddev: Standard deviation of the normal initializer. BERT and ViT both use 0.02.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.

    Returns:
        Float tensor of shape `(batch, 1 + length, width)`.

    Example:

    >>> tuple(ClassToken()(np.zeros((2, 5, 8))).shape)
    (2, 6, 8)

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), section 3.1, equation 1.
    """

    def __init__(self, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev

    def build(self, input_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
        )

    def call(self, tokens):
        token = ops.broadcast_to(self.embedding, (ops.shape(tokens)[0], 1, tokens.shape[-1]))
        return ops.concatenate([ops.cast(token, tokens.dtype), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        batch, length, width = input_shape
        return (batch, None if length is None else 1 + length, width)

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}
