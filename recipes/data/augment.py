"""Augmentation in the data pipeline: functions `name(images, rng, ...)` on `(batch, height, width, channels)` in NumPy.

They return a new array of the same shape and dtype and draw only from `rng`, so the same generator gives the same
images on every backend. They stand here and not in the model because geometric layers inside a model switch XLA off for
all of it.
"""

import functools

import numpy as np

POLICIES = (None, "shift", "flip_shift", "flip_shift_rand", "crop", "photo", "three")


def automatic(policy, input_shape, arguments=None):
    """Return the augmentation function that a policy's name stands for.

    Args:
        policy: `None` for no augmentation; `"shift"`, which never changes what a digit, a letter or a drawing means; and
            for photographs, never for anything that can be read: `"flip_shift"`, which also mirrors left and right,
            `"flip_shift_rand"`, with RandAugment after it, for small ones; `"crop"`, random resized crops and mirroring,
            `"photo"`, with RandAugment after it, and `"three"`, with DeiT III's 3-Augment after it.
        input_shape: `(height, width, channels)` of one image.
        arguments: Dict of numbers that replace the policy's own: `"crop"`, the smallest share of the area that is kept;
            `"layers"`, `"magnitude"` and `"stddev"` of RandAugment; `"jitter"` of 3-Augment; and with any policy
            `"erase"`, the share of images that random erasing takes a box from.

    Returns:
        A function `(images, rng) -> images`, or `None` where `policy` is `None`.

    Raises:
        ValueError: If the policy is unknown or has no such argument, or `input_shape` is not that of an image.

    Example:

    >>> import numpy as np
    >>> augment = automatic("photo", (32, 32, 3), {"magnitude": 6})
    >>> augment(np.zeros((8, 32, 32, 3), "uint8"), np.random.default_rng(0)).shape
    (8, 32, 32, 3)
    """
    if policy not in POLICIES:
        raise ValueError(f"augment must be one of {POLICIES} or a function (images, rng). Received: augment={policy!r}")
    if policy is None:
        return None
    if len(input_shape) != 3:
        raise ValueError(
            f"augment={policy!r} moves pixels, so it needs images of shape (height, width, channels). "
            f"Received: input_shape={tuple(input_shape)}. Pass augment=None for data that are not images."
        )
    from recipes.data import photo  # which takes its checks from here

    given = dict(arguments or {})
    functions = [shift] if policy == "shift" else [flip, shift] if policy.startswith("flip_shift") else []
    if policy in ("crop", "photo", "three"):
        functions += [functools.partial(photo.random_resized_crop, scale=(given.pop("crop", 0.08), 1.0)), flip]
    if policy in ("flip_shift_rand", "photo"):
        strengths = {name: given.pop(name) for name in ("layers", "magnitude", "stddev") if name in given}
        functions.append(functools.partial(photo.rand_augment, **strengths))
    if policy == "three":
        functions.append(functools.partial(photo.three_augment, jitter=given.pop("jitter", 0.3)))
    erase = given.pop("erase", 0.0)
    if erase:
        functions.append(functools.partial(photo.random_erasing, probability=erase))
    if given:
        raise ValueError(f"augment={policy!r} takes no such argument. Received: {', '.join(map(repr, given))}")
    return functions[0] if len(functions) == 1 else compose(*functions)


def shift(images, rng, amount=0.125, padding="edge"):
    """Shift each image by a random whole number of pixels, up and down and left and right.

    This is the random crop of the padded image that CIFAR networks have been trained with since ResNet.

    Args:
        images: Array of shape `(batch, height, width, channels)`, any dtype.
        rng: A `numpy.random.Generator`.
        amount: The largest shift: an int is pixels, a float a fraction of each side (rounded, at least one pixel). The
            default is the paper's 4 pixels of 32.
        padding: What comes in from outside: `"edge"` repeats the border, so that the paper under a drawing stays white
            and a stroke is never doubled; `"reflect"` mirrors; `"zero"` is black.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` is no batch of images, or `amount` or `padding` is out of range.

    Example:

    >>> import numpy as np
    >>> digits = np.arange(2 * 8 * 8, dtype="uint8").reshape(2, 8, 8, 1)
    >>> shift(digits, np.random.default_rng(0), amount=1).dtype
    dtype('uint8')

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 4.2.
    """
    check_images(images)
    modes = {"edge": "edge", "reflect": "reflect", "zero": "constant"}
    if padding not in modes:
        raise ValueError(f"padding must be one of {tuple(modes)}. Received: padding={padding!r}")
    n, height, width, _ = images.shape
    top, left = _pixels(amount, height), _pixels(amount, width)
    padded = np.pad(images, ((0, 0), (top, top), (left, left), (0, 0)), mode=modes[padding])
    corners = zip(rng.integers(0, 2 * top + 1, n).tolist(), rng.integers(0, 2 * left + 1, n).tolist(), strict=True)
    shifted = np.empty_like(images, order="C")
    for i, (y, x) in enumerate(corners):  # one copy of a block each: four times as fast as one fancy index over all
        shifted[i] = padded[i, y : y + height, x : x + width]
    return shifted


def flip(images, rng, probability=0.5):
    """Mirror each image left to right with a probability.

    Args:
        images: Array of shape `(batch, height, width, channels)`, any dtype.
        rng: A `numpy.random.Generator`.
        probability: Fraction of the images that are mirrored, in [0, 1].

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` is no batch of images, or `probability` is not in [0, 1].

    Example:

    >>> import numpy as np
    >>> row = np.arange(3).reshape(1, 1, 3, 1)
    >>> flip(row, np.random.default_rng(0), probability=1.0).ravel().tolist()
    [2, 1, 0]
    """
    check_images(images)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be a fraction in [0, 1]. Received: probability={probability!r}")
    chosen = rng.random(len(images)) < probability
    flipped = np.array(images, order="C")
    flipped[chosen] = images[chosen, :, ::-1]
    return flipped


def cutout(images, rng, amount=0.5):
    """Cover a square of each image with that image's mean colour.

    The square's centre may be any pixel, so that part of the square may fall outside, as in the paper. The mean colour
    stands for the paper's zeros, which there come after the mean was subtracted.

    Args:
        images: Array of shape `(batch, height, width, channels)`, any dtype.
        rng: A `numpy.random.Generator`.
        amount: Side of the square: an int is pixels, a float a fraction of the image's shorter side. The default is the
            paper's 16 pixels of 32 for CIFAR-10.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` is no batch of images, or `amount` is out of range.

    Example:

    >>> import numpy as np
    >>> cutout(np.full((4, 32, 32, 3), 7, "uint8"), np.random.default_rng(0)).mean().item()
    7.0

    Reference:
        [DeVries and Taylor, 2017](https://arxiv.org/abs/1708.04552), section 3.2.
    """
    check_images(images)
    n, height, width, _ = images.shape
    side = _pixels(amount, min(height, width))
    tops = (rng.integers(0, height, n) - side // 2).tolist()
    lefts = (rng.integers(0, width, n) - side // 2).tolist()
    pixels = images.reshape(n, height * width, -1).astype("float32")
    colours = np.ones(height * width, "float32") @ pixels / (height * width)  # (batch, channels); 40 x faster than mean
    if np.issubdtype(images.dtype, np.integer):
        colours = np.rint(colours)
    covered = np.array(images, order="C")
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        covered[i, max(0, top) : top + side, max(0, left) : left + side] = colours[i]
    return covered


def compose(*functions):
    """Return one augmentation function that applies several in order, all drawing from the same generator.

    Args:
        *functions: Functions `(images, rng) -> images`; give them other arguments with `functools.partial`.

    Returns:
        A function `(images, rng) -> images`.

    Example:

    >>> import numpy as np
    >>> augment = compose(flip, functools.partial(shift, amount=2))
    >>> augment(np.zeros((8, 32, 32, 3), "uint8"), np.random.default_rng(0)).shape
    (8, 32, 32, 3)
    """
    for function in functions:
        if not callable(function):
            raise ValueError(f"compose takes functions (images, rng) -> images. Received: {function!r}")
    return functools.partial(_apply, functions)


def _apply(functions, images, rng):
    for function in functions:
        images = function(images, rng)
    return images


def check_images(images):
    if getattr(images, "ndim", None) != 4:
        raise ValueError(
            "images must be an array of shape (batch, height, width, channels). "
            f"Received: {getattr(images, 'shape', type(images).__name__)}"
        )


def _pixels(amount, side):
    """The whole number of pixels that `amount` is of `side`."""
    whole = isinstance(amount, (int, np.integer)) and not isinstance(amount, bool)
    if not (0 < amount < side if whole else 0 < amount < 1):
        raise ValueError(
            f"amount must be a whole number of pixels in [1, {side - 1}] (an int) or a fraction in (0, 1) (a float). "
            f"Received: amount={amount!r}"
        )
    return int(amount) if whole else min(side - 1, max(1, round(amount * side)))
