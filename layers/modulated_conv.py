"""A convolution whose kernel every example scales for itself."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class ModulatedConv2D(keras.layers.Layer):
    """Convolves each example by its own kernel: `scales[i] * kernel[:, :, i, o]`, brought to length 1 for each `o`.

    The kernel of each example is never made: input channels are scaled before the one convolution that all share, and
    output channels after it, which is the same. The kernel starts standard normal and is divided by the root of its fan-in
    when used (equalised learning rate), so that Adam moves all kernels at one relative pace.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the kernel.
        demodulate: Whether to bring the kernels to length 1; a layer that makes an image does without.

    Call arguments:
        inputs: Float tensor of shape `(batch, height, width, channels)`.
        scales: Float tensor of shape `(batch, channels)`; optional, 1 without it.

    Returns:
        Float tensor of shape `(batch, height, width, filters)`.

    Example:

    >>> tuple(ModulatedConv2D(6)(np.ones((2, 8, 8, 4)), np.ones((2, 4))).shape)
    (2, 8, 8, 6)

    Reference:
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958), equations 1 to 3, and appendix B.
    """

    def __init__(self, filters, kernel_size=3, demodulate=True, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.demodulate = demodulate

    def build(self, inputs_shape, scales_shape=None):
        shape = (self.kernel_size, self.kernel_size, inputs_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=keras.initializers.RandomNormal(stddev=1.0))
        self.scale = (self.kernel_size**2 * inputs_shape[-1]) ** -0.5

    def call(self, inputs, scales=None):
        kernel = ops.convert_to_tensor(self.kernel) * self.scale
        x = inputs if scales is None else inputs * scales[:, None, None, :]
        # a product of matrices is faster than a convolution of one pixel
        x = ops.matmul(x, kernel[0, 0]) if self.kernel_size == 1 else ops.conv(x, kernel, padding="same")
        if not self.demodulate:
            return x
        # in bfloat16 the sum of many squares would lose its small terms
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        squares = ops.sum(ops.square(ops.cast(kernel, wide)), axis=(0, 1))  # (channels, filters)
        if scales is None:
            length = ops.sum(squares, axis=0, keepdims=True)
        else:
            length = ops.matmul(ops.square(ops.cast(scales, wide)), squares)  # (batch, filters)
        return x * ops.cast(ops.rsqrt(length + 1e-8), x.dtype)[:, None, None, :]

    def compute_output_shape(self, inputs_shape, scales_shape=None):
        return (*inputs_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "demodulate": self.demodulate,
        }
