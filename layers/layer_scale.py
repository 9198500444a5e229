"""A learned factor for each channel."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned factor that starts small.

    Put it on a residual branch before it is added to its shortcut: the network starts near the identity, however deep.

    Args:
        initial: Float, what every factor starts with. ConvNeXt uses 1e-6, CaiT .1 to 1e-6, the deeper the less.

    Call arguments:
        inputs: Float tensor of shape `(batch, ..., channels)`.

    Returns:
        Float tensor of the shape of `inputs`.

    Example:

    >>> tuple(LayerScale(0.5)(np.ones((2, 3))).shape)
    (2, 3)

    Reference:
        [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), section 2, equation 4.
    """

    def __init__(self, initial=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial
        self.supports_masking = True

    def build(self, input_shape):
        self.scale = self.add_weight(
            name="scale", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial)
        )

    def call(self, inputs):
        return inputs * ops.cast(self.scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
