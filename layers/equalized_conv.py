"""A convolution with an equalised learning rate."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class EqualizedConv2D(keras.layers.Layer):
    """Convolution whose kernel starts standard normal and is divided by the root of its fan-in when used.

    See `EqualizedDense`. The output has the size of the input.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the kernel.
        use_bias: Whether to add a bias, which starts at 0.

    Call arguments:
        inputs: Float tensor of shape `(batch, height, width, channels)`.

    Returns:
        Float tensor of shape `(batch, height, width, filters)`.

    Example:

    >>> tuple(EqualizedConv2D(6)(np.ones((2, 8, 8, 4))).shape)
    (2, 8, 8, 6)

    Reference:
        [Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 4.1.
    """

    def __init__(self, filters, kernel_size=3, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.use_bias = use_bias

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=keras.initializers.RandomNormal(stddev=1.0))
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None
        self.scale = (self.kernel_size**2 * input_shape[-1]) ** -0.5

    def call(self, inputs):
        kernel = ops.convert_to_tensor(self.kernel) * self.scale
        # a product of matrices is faster than a convolution of one pixel
        x = ops.matmul(inputs, kernel[0, 0]) if self.kernel_size == 1 else ops.conv(inputs, kernel, padding="same")
        return x + ops.convert_to_tensor(self.bias) if self.use_bias else x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        config = {"filters": self.filters, "kernel_size": self.kernel_size, "use_bias": self.use_bias}
        return {**super().get_config(), **config}
