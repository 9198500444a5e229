"""A learned temperature."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class LogitScale(keras.layers.Layer):
    """Multiplies by one learned positive number: the inverse of a softmax's temperature.

    Args:
        initial: Factor at the start, above 0. CLIP begins at 1 / 0.07.
        limit: Largest factor, above 0: beyond it training becomes unstable.

    Call arguments:
        x: Float tensor of any shape.

    Returns:
        Float tensor of the shape of `x`.

    Example:

    >>> ops.convert_to_numpy(LogitScale(initial=10.0)(np.ones(2))).round(4).tolist()
    [10.0, 10.0]

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), section 2.5.
    """

    def __init__(self, initial=1 / 0.07, limit=100.0, **kwargs):
        super().__init__(**kwargs)
        if not 0 < initial <= limit < float("inf"):
            raise ValueError(f"initial must be above 0 and at most limit. Received: initial={initial}, limit={limit}")
        self.initial = initial
        self.limit = limit

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer=keras.initializers.Constant(math.log(self.initial)))

    def call(self, x):
        return x * ops.cast(ops.exp(ops.minimum(self.scale, math.log(self.limit))), x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial, "limit": self.limit}
