"""A dense layer with an equalised learning rate."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class EqualizedDense(keras.layers.Layer):
    """Dense layer whose weights start standard normal and are divided by the root of their number when used.

    Adam moves every weight by about its learning rate, whatever the scale of the weights. With all of them of one scale,
    all layers learn at one relative pace.

    Args:
        units: Number of outputs.
        rate: Factor of the learning rate of this layer, greater than 0.
        start: What the bias starts with, such as 1 for the scales of a modulated convolution.

    Call arguments:
        inputs: Float tensor of shape `(batch, ..., columns)`.

    Returns:
        Float tensor of shape `(batch, ..., units)`.

    Example:

    >>> tuple(EqualizedDense(3)(np.ones((2, 5))).shape)
    (2, 3)

    Reference:
        [Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 4.1; the rate of the mapping network:
        [Karras et al., 2019](https://arxiv.org/abs/1812.04948), appendix C.
    """

    def __init__(self, units, rate=1.0, start=0.0, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        if not rate > 0:
            raise ValueError(f"rate must be greater than 0. Received: rate={rate}")
        self.units = units
        self.rate = rate
        self.start = start

    def build(self, input_shape):
        normal = keras.initializers.RandomNormal(stddev=1 / self.rate)
        constant = keras.initializers.Constant(self.start / self.rate)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer=normal)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=constant)
        self.scale = self.rate * input_shape[-1] ** -0.5

    def call(self, inputs):
        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        return ops.matmul(inputs, kernel * self.scale) + bias * self.rate

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate, "start": self.start}
