"""The first token of a sequence, which stands for all of it."""

import keras


@keras.saving.register_keras_serializable("recipes")
class FirstToken(keras.layers.Layer):
    """Takes the first vector of a sequence of any length.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.

    Returns:
        Float tensor of shape `(batch, width)`.

    Example:

    >>> keras.ops.convert_to_numpy(FirstToken()(np.array([[[1.0, 2.0], [3.0, 4.0]]]))).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, tokens):
        return tokens[:, 0]

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[2]
