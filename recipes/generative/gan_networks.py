"""Generators and discriminators of `gan`: DCGAN's convolutions, R3GAN's residual blocks, and dense ones for vectors."""

import keras

from recipes.generative.model import label_vector
from recipes.layers import FusedBatchNorm

LEAK = 0.2  # slope of the rectifier below 0; Radford et al., 2016, section 3


def begin(data_shape, num_classes, latent):
    """Begin a generator: return its inputs, and noise joined by a vector for the class, `(batch, width)`."""
    noise = keras.Input((latent,), name="generator_noise")
    if num_classes is None:
        return noise, noise
    ids, vector = label_vector(num_classes, latent, name="generator_label")
    return [noise, ids], keras.layers.Concatenate(name="generator_condition")([noise, vector])


def finish(inputs, x, num_classes, bias, initializer, pooled=None):
    """End a discriminator: features `(batch, n)` to logits `(batch, 1)`, float32.

    A class adds the product of its vector and the features, or `pooled` ones (Miyato & Koyama, 2018,
    https://arxiv.org/abs/1802.05637, equation 3). Losses on differences of logits take no `bias`.
    """
    arguments = {"kernel_initializer": initializer, "dtype": "float32", "name": "discriminator_logits"}
    logits = keras.layers.Dense(1, use_bias=bias, **arguments)(x)
    if num_classes is None:
        return keras.Model(inputs, logits, name="discriminator")
    pooled = x if pooled is None else pooled
    ids, vector = label_vector(num_classes, pooled.shape[-1], stddev=0.05, name="discriminator_label")
    product = keras.layers.Dot(1, dtype="float32", name="discriminator_projection")([vector, pooled])
    logits = keras.layers.Add(dtype="float32", name="discriminator_conditional_logits")([logits, product])
    return keras.Model([inputs, ids], logits, name="discriminator")


def dense_networks(data_shape, num_classes, latent, width, bias, depth=3):
    """Networks of `depth` hidden layers for vectors."""
    inputs, x = begin(data_shape, num_classes, latent)
    for i in range(1, depth + 1):
        x = keras.layers.Dense(width, "relu", kernel_initializer="he_normal", name=f"generator_dense{i}")(x)
    x = keras.layers.Dense(*data_shape, dtype="float32", name="generator_vector")(x)
    generator = keras.Model(inputs, x, name="generator")
    inputs = x = keras.Input(data_shape, name="discriminator_vector")
    for i in range(1, depth + 1):
        x = keras.layers.Dense(width, kernel_initializer="he_normal", name=f"discriminator_dense{i}")(x)
        x = keras.layers.LeakyReLU(LEAK, name=f"discriminator_leaky{i}")(x)
    return generator, finish(inputs, x, num_classes, bias, "glorot_uniform")


def halvings(data_shape):
    """Return how often both sides of an image can be halved and stay at least 4 pixels long."""
    height, width = data_shape[:2]
    times = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width, times = height // 2, width // 2, times + 1
    if times == 0:
        raise ValueError(
            f"input_shape must have sides that are even and at least 8, to be halved. Received: input_shape={data_shape}"
        )
    return times


def convolutional_networks(data_shape, num_classes, latent, width, bias, normalise):
    """DCGAN's networks (Radford et al., 2016, https://arxiv.org/abs/1511.06434, figure 1).

    The generator doubles the side from 4 to 7 pixels by transposed convolutions, the discriminator halves it. `width` are
    the channels at half the side of the image, twice as many at a quarter, up to eight times. Without `normalise` the
    discriminator has no batch normalisation, which a penalty on each example's gradient rules out.
    """
    times = halvings(data_shape)
    widths = [width * min(8, 2**i) for i in range(times)]  # from the image inwards

    def normal():  # a new one each time: one alone would start all kernels of a shape equal
        return keras.initializers.RandomNormal(stddev=0.02)

    def norm(name):
        gamma = keras.initializers.RandomNormal(mean=1.0, stddev=0.02)
        return FusedBatchNorm(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name)

    inputs, x = begin(data_shape, num_classes, latent)
    start = (data_shape[0] >> times, data_shape[1] >> times, widths[-1])
    units = start[0] * start[1] * start[2]
    x = keras.layers.Dense(units, use_bias=False, kernel_initializer=normal(), name="generator_project")(x)
    x = keras.layers.Reshape(start, name="generator_start")(x)  # (batch, 4, 4, widths[-1])
    x = keras.layers.ReLU(name="generator_relu0")(norm("generator_norm0")(x))
    for i, channels in enumerate([*widths[-2::-1], data_shape[-1]], start=1):
        last = i == times
        arguments = {"use_bias": False, "kernel_initializer": normal(), "name": f"generator_conv{i}"}
        x = keras.layers.Conv2DTranspose(channels, 4, 2, padding="same", **arguments)(x)
        x = x if last else keras.layers.ReLU(name=f"generator_relu{i}")(norm(f"generator_norm{i}")(x))
    x = keras.layers.Activation("tanh", dtype="float32", name="generator_image")(x)
    generator = keras.Model(inputs, x, name="generator")

    inputs = x = keras.Input(data_shape, name="discriminator_image")
    for i, channels in enumerate(widths, start=1):
        plain = i == 1 or not normalise
        arguments = {"use_bias": plain, "kernel_initializer": normal(), "name": f"discriminator_conv{i}"}
        x = keras.layers.Conv2D(channels, 4, 2, padding="same", **arguments)(x)
        x = x if plain else norm(f"discriminator_norm{i}")(x)
        x = keras.layers.LeakyReLU(LEAK, name=f"discriminator_leaky{i}")(x)
    flat = keras.layers.Flatten(name="discriminator_features")(x)
    pooled = None if num_classes is None else keras.layers.GlobalAveragePooling2D(name="discriminator_pool")(x)
    return generator, finish(inputs, flat, num_classes, bias, normal(), pooled)


def residual_networks(data_shape, num_classes, latent, width, bias, depth=1):
    """Networks in the manner of R3GAN (Huang et al., 2024, https://arxiv.org/abs/2501.05441, figure 4), config E.

    Stages of `depth` bottleneck blocks without normalisation, resized in between. Their 3x3 convolutions are grouped
    there and plain here: on a CPU that is faster, at the widths that it can train.
    """
    times = halvings(data_shape)
    widths = [width * min(8, 2**i) for i in range(times + 1)]
    blocks = (times + 1) * depth

    inputs, x = begin(data_shape, num_classes, latent)
    start = (data_shape[0] >> times, data_shape[1] >> times, widths[-1])
    x = keras.layers.Dense(start[0] * start[1] * start[2], kernel_initializer="he_normal", name="generator_project")(x)
    x = keras.layers.Reshape(start, name="generator_start")(x)
    for i, channels in enumerate(widths[::-1]):
        if i:
            x = _projection(x, channels, f"generator_stage{i}_widen")
            x = keras.layers.UpSampling2D(name=f"generator_stage{i}_up")(x)
        for j in range(depth):
            x = _bottleneck(x, blocks, f"generator_stage{i}_block{j}")
    x = keras.layers.Conv2D(data_shape[-1], 1, dtype="float32", name="generator_image")(x)
    generator = keras.Model(inputs, x, name="generator")

    inputs = keras.Input(data_shape, name="discriminator_image")
    x = _projection(inputs, widths[0], "discriminator_stem")
    for i, channels in enumerate(widths):
        if i:
            x = keras.layers.AveragePooling2D(2, name=f"discriminator_stage{i}_down")(x)
            x = _projection(x, channels, f"discriminator_stage{i}_widen")
        for j in range(depth):
            x = _bottleneck(x, blocks, f"discriminator_stage{i}_block{j}")
    # a learned average of each channel, as their depthwise convolution over all of the last 4 x 4 pixels
    x = keras.layers.DepthwiseConv2D(start[:2], use_bias=False, name="discriminator_pool")(x)
    x = keras.layers.Flatten(name="discriminator_features")(x)
    return generator, finish(inputs, x, num_classes, bias, "glorot_uniform")


def _projection(x, channels, name):
    return keras.layers.Conv2D(channels, 1, kernel_initializer="he_normal", use_bias=False, name=name)(x)


def _bottleneck(x, blocks, name):
    """Wider, 3x3, narrower, and the shortcut: each block is the identity at first, the others' branches scaled down."""
    channels = x.shape[-1]

    def start():  # Fixup (Zhang et al., 2019, https://arxiv.org/abs/1901.09321, section 3): He's variance over the root of L
        return keras.initializers.VarianceScaling(2.0 * blocks**-0.5, "fan_in", "truncated_normal")

    y = keras.layers.Conv2D(2 * channels, 1, kernel_initializer=start(), name=f"{name}_conv1")(x)
    y = keras.layers.LeakyReLU(LEAK, name=f"{name}_leaky1")(y)
    y = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=start(), name=f"{name}_conv2")(y)
    y = keras.layers.LeakyReLU(LEAK, name=f"{name}_leaky2")(y)
    y = keras.layers.Conv2D(channels, 1, use_bias=False, kernel_initializer="zeros", name=f"{name}_conv3")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])
