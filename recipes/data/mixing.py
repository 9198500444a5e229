"""Augmentation that changes the labels with the images: MixUp and CutMix, `name(x, y, rng, ...)` on a batch in NumPy.

Labels come back as soft targets `(batch, classes)`, which `recipes.CrossEntropy` and `recipes.BinaryCrossEntropy` take.
One share and one box are drawn a batch, as in the papers' code. Keras has layers of these names; called on the host they
took 5 to 20 ms a batch of 128 images of 32x32 for MixUp, 10 to 33 for CutMix (here: .5 and .1), and `keras.layers.CutMix`
weighs the labels by the box that it drew, not by the part inside the image: wrong by up to .06 of a label.
"""

import functools

import numpy as np


def automatic_mix(mix, num_classes):
    """Return the mixing function that a recipe's setting stands for.

    Args:
        mix: `None` for none, or a dict: `"mixup"` and `"cutmix"`, the alpha of each (0 or left out: not used; with both,
            each batch takes one by chance), and `"probability"`, the share of batches that are mixed, 1 if left out.
        num_classes: Number of classes, to turn class ids into soft targets; `None` if the targets are no class ids.

    Returns:
        A function `(x, y, rng) -> (x, y)`, or `None` where `mix` is `None`.

    Raises:
        ValueError: If `mix` has another key, or a number out of range.

    Example:

    >>> import numpy as np
    >>> mix = automatic_mix({"mixup": 0.2, "cutmix": 1.0}, num_classes=10)
    >>> x, y = mix(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4), np.random.default_rng(0))
    >>> y.shape
    (4, 10)
    """
    if mix is None:
        return None
    if not isinstance(mix, dict) or set(mix) - {"mixup", "cutmix", "probability"}:
        raise ValueError(f'mix must be a dict of "mixup", "cutmix" and "probability", or None. Received: mix={mix!r}')
    functions = []
    for function in (mixup, cutmix):
        alpha = mix.get(function.__name__, 0)
        if alpha:
            _check_alpha(alpha)
            functions.append(functools.partial(function, alpha=alpha, num_classes=num_classes))
    if not functions:
        raise ValueError(f'mix must have an alpha > 0 for "mixup" or "cutmix". Received: mix={mix!r}')
    probability = mix.get("probability", 1.0)
    if not 0 <= probability <= 1:
        raise ValueError(f"mix: probability must be a fraction in [0, 1]. Received: probability={probability!r}")
    return functools.partial(_mix, tuple(functions), probability, num_classes)


def mixup(x, y, rng, alpha=0.2, num_classes=None):
    """Average each image with another one of the batch, and their labels in the same shares.

    Args:
        x: Array `(batch, height, width, channels)`, any dtype.
        y: Class ids `(batch,)`, or soft targets `(batch, classes)`.
        rng: A `numpy.random.Generator`.
        alpha: The share of the first image is drawn from Beta(alpha, alpha): below 1 mostly near 0 or 1.
        num_classes: Number of classes, needed where `y` are ids.

    Returns:
        `(x, y)`: new images of the same dtype, rounded if that is whole numbers, and float32 soft targets
        `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import numpy as np
    >>> x, y = mixup(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4), np.random.default_rng(0), num_classes=4)
    >>> y.sum(axis=1).tolist()
    [1.0, 1.0, 1.0, 1.0]

    Reference:
        [Zhang et al., 2018](https://arxiv.org/abs/1710.09412), equation 1.
    """
    _check_alpha(alpha)
    y = soft_targets(y, num_classes)
    share, partner = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(x))
    mixed = share * x.astype("float32") + (1 - share) * x[partner].astype("float32")
    if np.issubdtype(x.dtype, np.integer):
        mixed = np.rint(mixed, out=mixed)
    return mixed.astype(x.dtype), share * y + (1 - share) * y[partner]


def cutmix(x, y, rng, alpha=1.0, num_classes=None):
    """Put a box of another image of the batch into each image, and mix their labels as the areas are.

    The centre of the box may be any pixel, so part of it may fall outside; the labels count what is inside.

    Args:
        x: Array `(batch, height, width, channels)`, any dtype.
        y: Class ids `(batch,)`, or soft targets `(batch, classes)`.
        rng: A `numpy.random.Generator`.
        alpha: The share that the image keeps is drawn from Beta(alpha, alpha).
        num_classes: Number of classes, needed where `y` are ids.

    Returns:
        `(x, y)`: new images of the same dtype, and float32 soft targets `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import numpy as np
    >>> x, y = cutmix(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4), np.random.default_rng(0), num_classes=4)
    >>> y.shape
    (4, 4)

    Reference:
        [Yun et al., 2019](https://arxiv.org/abs/1905.04899), section 3.1.
    """
    _check_alpha(alpha)
    y = soft_targets(y, num_classes)
    height, width = x.shape[1:3]
    side, partner = np.sqrt(1 - rng.beta(alpha, alpha)), rng.permutation(len(x))  # of the box, as a share of the image's
    (top, bottom), (left, right) = (_inside(side, size, rng.integers(size)) for size in (height, width))
    mixed = np.array(x, order="C")
    mixed[:, top:bottom, left:right] = x[partner, top:bottom, left:right]
    share = np.float32(1 - (bottom - top) * (right - left) / (height * width))
    return mixed, share * y + (1 - share) * y[partner]


def soft_targets(y, num_classes):
    """Return float32 targets: class ids one-hot, `(batch, num_classes)`, others as they are.

    >>> import numpy as np
    >>> soft_targets(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    y = np.asarray(y)
    if num_classes is None and y.ndim == 1 and y.dtype.kind != "f":
        raise ValueError(f"num_classes must be given to mix class ids. Received: y of shape {y.shape}, {y.dtype}")
    if num_classes is None or (y.ndim == 2 and y.shape[1] == num_classes and num_classes > 1):
        return y.astype("float32")
    return np.eye(num_classes, dtype="float32")[y.reshape(len(y)).astype("int64")]


def _mix(functions, probability, num_classes, x, y, rng):
    if rng.random() >= probability:  # soft targets all the same: every batch of a fit has targets of one shape
        return x, soft_targets(y, num_classes)
    return functions[rng.integers(len(functions))](x, y, rng)


def _inside(side, size, centre):
    """First and last + 1 pixel of what is inside an image of `size` of a stretch of `side * size` around `centre`."""
    length = round(side * size)
    first = int(centre) - length // 2
    return max(0, first), min(size, first + length)


def _check_alpha(alpha):
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a finite number > 0. Received: alpha={alpha!r}")
