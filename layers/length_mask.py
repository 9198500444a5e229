"""Which steps of a sequence are real, in the form that cuDNN takes."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class LengthMask(keras.layers.Layer):
    """Tells which steps of a sequence are real: all up to the last one that is not padding, and always the first.

    What `padding_value` means within a sequence is data; only what follows the last real step is padding. cuDNN takes no
    other mask: padding on the right, and at least one real step a row.

    Args:
        padding_value: What fills rows up: a token id, or the number that all channels of a step have. `None` if nothing
            does: all steps are real then.

    Call arguments:
        x: Token ids of shape `(batch, length)`, or a float tensor of shape `(batch, length, channels)`.

    Returns:
        Bool tensor of shape `(batch, length)`, true where a step is real.

    Example:

    >>> keras.ops.convert_to_numpy(LengthMask()(np.array([[5, 0, 3, 0], [0, 0, 0, 0]]))).tolist()
    [[True, True, True, False], [True, False, False, False]]
    """

    def __init__(self, padding_value=0, **kwargs):
        super().__init__(**kwargs)
        self.padding_value = padding_value

    def call(self, x):
        if self.padding_value is None:
            return ops.ones(ops.shape(x)[:2], dtype="bool")
        real = ops.not_equal(x, ops.cast(self.padding_value, x.dtype))
        real = ops.any(real, axis=-1) if len(x.shape) == 3 else real
        steps = ops.arange(1, ops.shape(x)[1] + 1)
        lengths = ops.max(ops.where(real, steps, 1), axis=1, keepdims=True)  # (batch, 1)
        return steps <= lengths

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape[:2], dtype="bool")

    def get_config(self):
        return {**super().get_config(), "padding_value": self.padding_value}
