"""The blocks of the EfficientNets: functions from `(batch, height, width, channels)` to the same, perhaps half the size."""

import keras

from recipes.layers import DropPath, FusedBatchNorm


def mbconv(x, kernel, stride, expansion, channels, *, activation, squeeze, momentum, drop_path, name):
    """Inverted bottleneck: widen, filter each channel, weigh channels (not in Lite), narrow; a shortcut if it fits."""
    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        x = conv_norm(x, expansion * width, 1, 1, activation, momentum, name=f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel,
        stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_depthwise_conv",
    )(x)
    x = norm(x, momentum, name=f"{name}_depthwise")
    x = keras.layers.Activation(activation, name=f"{name}_depthwise_activation")(x)
    if squeeze:
        x = squeeze_excite(x, max(1, width // 4), activation, name=f"{name}_se")
    x = conv_norm(x, channels, 1, 1, None, momentum, name=f"{name}_project")
    return add_shortcut(x, shortcut, stride, drop_path, name)


def fused_mbconv(x, kernel, stride, expansion, channels, *, activation, momentum, drop_path, name):
    """The same with one full convolution that widens and filters; where nothing widens, that one alone.

    It has more products than `mbconv` but runs faster where channels are few
    ([Tan & Le, 2021](https://arxiv.org/abs/2104.00298), section 3.2 and figure 2).
    """
    shortcut = x
    if expansion > 1:
        x = conv_norm(x, expansion * x.shape[-1], kernel, stride, activation, momentum, name=f"{name}_expand")
        x = conv_norm(x, channels, 1, 1, None, momentum, name=f"{name}_project")
    else:
        x = conv_norm(x, channels, kernel, stride, activation, momentum, name=f"{name}_project")
    return add_shortcut(x, shortcut, stride, drop_path, name)


def add_shortcut(x, shortcut, stride, drop_path, name):
    """Add what went into a branch to what came out, if they have the same shape."""
    if stride == 1 and x.shape[-1] == shortcut.shape[-1]:
        x = DropPath(drop_path, name=f"{name}_drop_path")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def squeeze_excite(x, width, activation, name):
    """Weigh each channel by what all pixels say together (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)  # (batch, 1, 1, channels)
    y = keras.layers.Conv2D(width, 1, activation=activation, name=f"{name}_reduce")(y)
    y = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_expand")(y)
    return keras.layers.Multiply(name=f"{name}_weigh")([x, y])


def conv_norm(x, filters, size, stride, activation, momentum, name):
    """Convolution without bias, BatchNorm and perhaps an activation.

    "same" pads as TensorFlow does, and as timm's `tf_...` imitate.
    """
    x = keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    x = norm(x, momentum, name)
    return keras.layers.Activation(activation, name=f"{name}_activation")(x) if activation else x


def norm(x, momentum, name):
    """BatchNorm with the epsilon of the reference."""
    return FusedBatchNorm(momentum=momentum, epsilon=1e-3, name=f"{name}_norm")(x)
