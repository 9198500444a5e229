"""What image families do to raw pixels first, in the model, so that users never have to."""

import keras

# What torchvision, timm and the Hugging Face hub trained most of their weights with, times 255
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def standard_pixels(inputs, mean, std):
    """Bring raw 0..255 to what the weights were trained with: `(x - mean) / std` a channel.

    Grey images are repeated to three channels, so that the same weights fit. Of any other number of channels, which no
    weights fit, each gets the mean of the three means.
    """
    x = keras.layers.Concatenate(name="rgb")([inputs] * 3) if inputs.shape[-1] == 1 else inputs
    if x.shape[-1] != 3:
        mean, std = [sum(mean) / 3], [sum(std) / 3]
    scale, offset = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="rescale")(x)


def check_pretrained_channels(input_shape, weights):
    """Raise `ValueError` if weights are given and the images have neither 3 channels nor 1 to repeat."""
    if weights is not None and input_shape[2] not in (1, 3):
        raise ValueError(
            f"input_shape must have 3 channels, or 1 that is repeated, to fit the weights. Received: {input_shape=}. "
            "Drop the alpha channel, or pass weights=None."
        )
