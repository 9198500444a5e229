"""Augmentation of what a discriminator sees, through which gradients pass: for little data.

It never reaches the generator's samples, because the discriminator sees real and fake examples alike through it. All
geometry is one map per axis, `row -> scale * row + shift` with linear interpolation, as a matrix of the image's height and
one of its width: two matrix products on any backend, with derivatives of any order.
"""

import keras
from keras import ops

# What each name does, with the strengths of DiffAugment (the first three) and of StyleGAN2-ADA (the others).
POLICIES = ("colour", "translation", "cutout", "flip", "scale")


def draw_augmentation(policy, batch, shape, seed, probability=1.0):
    """Draw the random numbers of an augmentation.

    Args:
        policy: Names out of `POLICIES`.
        batch: Number of examples.
        shape: `(height, width, channels)` of the images.
        seed: `keras.random.SeedGenerator`.
        probability: Scalar in `[0, 1]`: the share of the examples that each augmentation changes.

    Returns:
        Dict of float32 tensors for `augment`; an example that is not changed has the numbers that change nothing.
    """
    height, width, _ = shape

    def uniform(low, high, neutral):
        value = keras.random.uniform((batch,), low, high, seed=seed)
        return ops.where(gate, value, ops.full_like(value, neutral))

    drawn = {}
    for name in policy:
        gate = keras.random.uniform((batch,), seed=seed) < probability
        if name == "colour":
            drawn["brightness"] = uniform(-1.0, 1.0, 0.0)  # -1..1 is the range of the pixels: half of it, up or down
            drawn["saturation"] = uniform(0.0, 2.0, 1.0)
            drawn["contrast"] = uniform(0.5, 1.5, 1.0)
        elif name == "translation":  # by whole pixels, an eighth of the side
            drawn["down"] = ops.round(uniform(-height / 8, height / 8, 0.0))
            drawn["right"] = ops.round(uniform(-width / 8, width / 8, 0.0))
        elif name == "cutout":  # half the side; its middle may be anywhere
            drawn["cut_row"] = ops.floor(uniform(0.0, height, -2.0 * height))
            drawn["cut_column"] = ops.floor(uniform(0.0, width, -2.0 * width))
        elif name == "flip":
            drawn["mirror"] = ops.where(uniform(0.0, 1.0, 1.0) < 0.5, -1.0, 1.0)
        elif name == "scale":  # log-normal, of one factor of 2 in 5 standard deviations
            factor = keras.random.normal((batch,), stddev=0.2, seed=seed)
            drawn["scale"] = ops.where(gate, ops.power(2.0, factor), 1.0)
        else:
            raise ValueError(f"augment must hold names out of {POLICIES}. Received: {name!r}")
    return drawn


def augment(x, drawn):
    """Apply what `draw_augmentation` drew to images `(batch, height, width, channels)` in -1..1."""
    if "brightness" in drawn:
        x = x + _each(drawn["brightness"])
        grey = ops.mean(x, axis=3, keepdims=True)
        x = grey + (x - grey) * _each(drawn["saturation"])
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = mean + (x - mean) * _each(drawn["contrast"])
    if drawn.keys() & {"down", "mirror", "scale"}:
        ones = ops.ones_like(next(iter(drawn.values())))
        scale, mirror = drawn.get("scale", ones), drawn.get("mirror", ones)
        rows = _linear_map(x.shape[1], scale, drawn.get("down", 0 * ones))
        columns = _linear_map(x.shape[2], scale * mirror, drawn.get("right", 0 * ones))
        x = ops.einsum("bij,bjwc->biwc", rows, x)
        x = ops.einsum("bij,bhjc->bhic", columns, x)
    if "cut_row" in drawn:
        row, column = (_near(side, drawn[name]) for side, name in ((x.shape[1], "cut_row"), (x.shape[2], "cut_column")))
        x = x * (1.0 - row[:, :, None, None] * column[:, None, :, None])
    return x


def _each(values):
    return values[:, None, None, None]


def _linear_map(side, scale, shift):
    """Return matrices `(batch, side, side)` that enlarge lines of pixels about their middle and move them; 0 outside."""
    middle = (side - 1) / 2
    pixels = ops.arange(side, dtype="float32")
    source = (pixels[None, :] - middle - shift[:, None]) / scale[:, None] + middle  # (batch, side): where each one is from
    return ops.relu(1.0 - ops.abs(source[:, :, None] - pixels[None, None, :]))


def _near(side, middle):
    """Return `(batch, side)`: 1 within a quarter of the side of `middle`, else 0."""
    pixels = ops.arange(side, dtype="float32")[None, :] - middle[:, None]
    return ops.cast(ops.logical_and(pixels >= -(side // 4), pixels < side // 4), "float32")
