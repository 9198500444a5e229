"""What a network begins with when its input only says how to go on."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class LearnedConstant(keras.layers.Layer):
    """Puts out one learned array for every example, whatever comes in; it starts standard normal.

    Args:
        shape: Shape of the array, without the batch.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`, of which only the batch counts.

    Returns:
        Float tensor of shape `(batch, *shape)`.

    Example:

    >>> tuple(LearnedConstant((4, 4, 8))(np.zeros((2, 16))).shape)
    (2, 4, 4, 8)

    Reference:
        [Karras et al., 2019](https://arxiv.org/abs/1812.04948), section 2: the constant input of the synthesis network.
    """

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"shape must hold integers >= 1. Received: shape={shape}")
        self.shape = shape

    def build(self, input_shape):
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.constant = self.add_weight(name="constant", shape=self.shape, initializer=normal)

    def call(self, inputs):
        return ops.broadcast_to(ops.convert_to_tensor(self.constant)[None], (ops.shape(inputs)[0], *self.shape))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.shape)

    def get_config(self):
        return {**super().get_config(), "shape": list(self.shape)}
