"""A learned number for each channel."""

import keras


@keras.saving.register_keras_serializable("recipes")
class Bias(keras.layers.Layer):
    """Adds a learned number to each channel: the bias of a matrix that is another layer's, such as a tied embedding.

    Call arguments:
        x: Float tensor of shape `(batch, ..., channels)`.

    Returns:
        Float tensor of the shape of `x`.

    Example:

    >>> tuple(Bias()(np.zeros((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        return x + self.bias

    def compute_output_shape(self, input_shape):
        return input_shape
