"""Bilinear enlargement that can be differentiated any number of times."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class BilinearUpsample(keras.layers.Layer):
    """Doubles height and width, each new pixel three quarters of the nearest old one and one quarter of the next.

    It is `keras.layers.UpSampling2D(interpolation="bilinear")`, and StyleGAN2's filter `[1, 3, 3, 1]` but for the border,
    made of sums of shifted images: TensorFlow has no second derivative of its own operation, which path-length
    regularisation needs.

    Call arguments:
        inputs: Float tensor of shape `(batch, height, width, channels)`; height and width must be static.

    Returns:
        Float tensor of shape `(batch, 2 * height, 2 * width, channels)`.

    Example:

    >>> tuple(BilinearUpsample()(np.ones((2, 4, 4, 3))).shape)
    (2, 8, 8, 3)

    Reference:
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958), appendix B.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        height, width, channels = inputs.shape[1:]
        x = inputs
        before = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
        after = ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
        x = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=2)  # (batch, height, 2, width, channels)
        x = ops.reshape(x, (-1, 2 * height, width, channels))
        before = ops.concatenate([x[:, :, :1], x[:, :, :-1]], axis=2)
        after = ops.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)
        x = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=3)
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, 2 * height, 2 * width, channels)
