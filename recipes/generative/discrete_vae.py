"""The discrete VAE of DALL-E: an image as a small grid of codes, and back. Images are in -1..1 here."""

import math

import keras
from keras import ops

MARGIN = 0.1  # epsilon of Ramesh et al., equation 3: how far from 0 and 1 the logit-Laplace has the pixels
COOLEST = 1 / 16  # the last temperature, of the same appendix, A.2
SHARPNESS = 4.0  # standard deviation of the logits of a code over places and images, at first
LIKELIHOODS = {"laplace": 2, "gaussian": 1}  # maps that the decoder puts out for each channel


def image_encoder(input_shape, codes, hidden, halvings, blocks):
    """Build the network from images to the logits of the codes, float32 `(batch, rows, columns, codes)`.

    Args:
        input_shape: `(height, width, channels)`.
        codes: Number of codes.
        hidden: Channels at the resolution of the codes, halved at each resolution above, down to 16.
        halvings: How often height and width are halved.
        blocks: Number of residual blocks at the resolution of the codes.

    Returns:
        Functional `keras.Model`.
    """
    x = inputs = keras.Input(input_shape, name="image")
    for i in range(halvings):
        channels = max(16, hidden >> (halvings - 1 - i))
        x = convolution(channels, 4, 2, f"encoder_halve{i}")(x)
        x = keras.layers.Activation("relu", name=f"encoder_halve{i}_relu")(x)
    if not halvings:
        x = convolution(hidden, 3, 1, "encoder_stem")(x)
    for i in range(blocks):
        x = residual_block(x, blocks, f"encoder_block{i}")
    x = keras.layers.Activation("relu", name="encoder_relu")(x)
    x = keras.layers.Conv2D(codes, 1, use_bias=False, dtype="float32", name="code_scores")(x)
    # No code may win everywhere, as the first to help the decoder would. Single runs on emoji, not of one setting: without
    # this 3 of 128 codes were in use (32 pixels, 200 steps), with it 70 (16 pixels, 250). Its factor sets how soft
    # the choice begins.
    logits = keras.layers.BatchNormalization(
        momentum=0.9, center=False, gamma_initializer=keras.initializers.Constant(SHARPNESS), dtype="float32", name="logits"
    )(x)
    return keras.Model(inputs, logits, name="encoder")


def image_decoder(grid, width, channels, hidden, halvings, blocks):
    """Build the network from the vectors of codes to what the likelihood needs, float32 `(batch, height, width, channels)`.

    Args:
        grid: `(rows, columns)` of the codes.
        width: Length of the vector of a code.
        channels: Number of maps to put out.
        hidden, halvings, blocks: As in `image_encoder`.

    Returns:
        Functional `keras.Model`.
    """
    x = inputs = keras.Input((*grid, width), name="vectors")
    x = convolution(hidden, 1, 1, "decoder_stem")(x)  # 1x1 on either side of the codes, as the paper's A.3 has it
    for i in range(blocks):
        x = residual_block(x, blocks, f"decoder_block{i}")
    for i in range(halvings):
        x = keras.layers.Activation("relu", name=f"decoder_double{i}_relu")(x)
        x = keras.layers.Conv2DTranspose(
            max(16, hidden >> (i + 1)),
            4,
            2,
            padding="same",
            kernel_initializer="he_normal",
            name=f"decoder_double{i}",
        )(x)
    x = keras.layers.Activation("relu", name="decoder_relu")(x)
    small = keras.initializers.RandomNormal(stddev=0.01)  # begins with a grey of spread 1
    outputs = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=small, dtype="float32", name="maps")(x)
    return keras.Model(inputs, outputs, name="decoder")


def convolution(channels, size, stride, name):
    return keras.layers.Conv2D(channels, size, stride, padding="same", kernel_initializer="he_normal", name=name)


def residual_block(x, blocks, name):
    """Add three convolutions, half as wide inside, scaled so that `blocks` of them do not grow what they pass on."""
    width = x.shape[-1]
    y = x
    for i, (size, channels) in enumerate(((3, max(1, width // 2)), (3, max(1, width // 2)), (1, width)), start=1):
        y = keras.layers.Activation("relu", name=f"{name}_relu{i}")(y)
        last = keras.initializers.VarianceScaling(2.0 / blocks**2, "fan_in", "truncated_normal")
        start = last if size == 1 else "he_normal"
        y = keras.layers.Conv2D(channels, size, padding="same", kernel_initializer=start, name=f"{name}_conv{i}")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def misfit(images, outputs, likelihood):
    """Return how badly the decoder's `outputs` tell `images`, a mean over pixels and channels, float32 scalar.

    Args:
        images: Float32 `(batch, height, width, channels)`, in -1..1.
        outputs: What the decoder put out.
        likelihood: `"laplace"`: the negative logarithm of the logit-Laplace density of the pixels `p` in (0, 1),
            `log(2 b p (1 - p)) + |logit(p) - m| / b`, for the means `m` and the logarithms of `b` that the decoder puts
            out. `"gaussian"`: the mean squared error.

    Reference:
        [Ramesh et al., 2021](https://arxiv.org/abs/2102.12092), equation 2.
    """
    if likelihood == "gaussian":
        return ops.mean(ops.square(images - outputs))
    mean, spread = ops.split(outputs, 2, axis=-1)
    pixels = (images + 1.0) / 2.0 * (1 - 2 * MARGIN) + MARGIN
    logit = ops.log(pixels) - ops.log(1 - pixels)
    density = math.log(2.0) + spread + ops.log(pixels * (1 - pixels)) + ops.abs(logit - mean) * ops.exp(-spread)
    return ops.mean(density)


def likeliest(outputs, likelihood):
    """Return the images, in -1..1 or a little beyond, that the decoder's `outputs` stand for."""
    if likelihood == "gaussian":
        return outputs
    mean = ops.split(outputs, 2, axis=-1)[0]
    return (ops.sigmoid(mean) - MARGIN) / (1 - 2 * MARGIN) * 2.0 - 1.0


def surplus(logits):
    """Return the Kullback-Leibler divergence of the codes from uniform ones, a mean over places, float32 scalar.

    It is `log(codes)` less the entropy of `softmax(logits)`.
    """
    shares = ops.log_softmax(logits, axis=-1)
    return math.log(logits.shape[-1]) + ops.mean(ops.sum(ops.exp(shares) * shares, axis=-1))


def temperature(progress):
    """Return the temperature of the relaxation at `progress`, in 0..1, of the first stage: from 1 to 1/16 on a cosine.

    Reference:
        [Ramesh et al., 2021](https://arxiv.org/abs/2102.12092), appendix A.2.
    """
    return COOLEST + (1 - COOLEST) * (1 + ops.cos(math.pi * progress)) / 2
