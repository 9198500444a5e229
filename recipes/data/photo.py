"""Augmentation for photographs: crops, colours, RandAugment, 3-Augment and random erasing, as `augment.py` has it.

Geometry and colour operations run in Pillow, image by image, as in the code that the recipes were published with (timm,
torchvision), so that a magnitude means the same. Keras has layers of these names; called on the host,
`keras.layers.RandAugment` took 380 ms (TensorFlow) and 1500 ms (JAX) a batch of 128 images of 32x32, with the same two
operations for the whole batch, and `keras.layers.RandomErasing` 40 and 20 ms.
"""

import functools

import numpy as np

from recipes.data.augment import check_images

# Of 10, the largest magnitude: timm's `rand-m9-mstd0.5-inc1`, in which every operation grows with it.
MAGNITUDE = 10.0
ERASED = ((0.02, 0.4), 0.3)  # share of the area, smallest aspect ratio: Zhong et al., 2020, section 4.2


def random_resized_crop(images, rng, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Cut a box out of each image and resize it to the image's size, bicubic with antialiasing.

    Args:
        images: Array of shape `(batch, height, width, channels)` with 1 or 3 channels, values in 0..255.
        rng: A `numpy.random.Generator`.
        scale: Smallest and largest share of the image's area that the box has.
        ratio: Smallest and largest width over height of the box; drawn evenly on a logarithmic scale.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` are not such images, or `scale` is not in (0, 1].

    Example:

    >>> import numpy as np
    >>> random_resized_crop(np.zeros((4, 32, 32, 3), "uint8"), np.random.default_rng(0)).shape
    (4, 32, 32, 3)

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 6; the numbers are torchvision's.
    """
    if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"scale must be in (0, 1] and ratio > 0. Received: scale={scale}, ratio={ratio}")
    from PIL import Image

    pictures, finish = _pictures(images)
    n, (height, width) = len(images), images.shape[1:3]
    area, aspect = rng.uniform(*scale, n) * height * width, np.exp(rng.uniform(*np.log(ratio), n))
    widths, heights = np.minimum(np.sqrt(area * aspect), width), np.minimum(np.sqrt(area / aspect), height)
    lefts, tops = rng.random(n) * (width - widths), rng.random(n) * (height - heights)
    boxes = np.stack([lefts, tops, lefts + widths, tops + heights], axis=1).tolist()
    cubic = Image.Resampling.BICUBIC
    return finish([p.resize((width, height), cubic, box=box) for p, box in zip(pictures, boxes, strict=True)])


def colour_jitter(images, rng, brightness=0.3, contrast=0.3, saturation=0.3):
    """Change brightness, contrast and saturation of each image by factors of its own, in this order.

    Args:
        images: Array of shape `(batch, height, width, channels)`, values in 0..255.
        rng: A `numpy.random.Generator`.
        brightness: The factor is drawn from `[1 - brightness, 1 + brightness]`; in [0, 1].
        contrast: The same, for the distance to the image's mean grey.
        saturation: The same, for the distance of each pixel to its grey; nothing for images without 3 channels.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` is no batch of images, or an amount is not in [0, 1].

    Example:

    >>> import numpy as np
    >>> colour_jitter(np.zeros((4, 8, 8, 3), "uint8"), np.random.default_rng(0)).max().item()
    0
    """
    check_images(images)
    amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, amount in amounts.items():
        if not 0 <= amount <= 1:
            raise ValueError(f"{name} must be a number in [0, 1]. Received: {name}={amount!r}")
    factors = [rng.uniform(1 - a, 1 + a, (len(images), 1, 1, 1)).astype("float32") for a in amounts.values()]
    x = np.clip(images.astype("float32") * factors[0], 0, 255)
    mean = _grey(x).mean(axis=(1, 2), keepdims=True)
    x = np.clip(mean + (x - mean) * factors[1], 0, 255)
    if images.shape[-1] == 3:
        grey = _grey(x)
        x = np.clip(grey + (x - grey) * factors[2], 0, 255)
    return _like(x, images)


def rand_augment(images, rng, layers=2, magnitude=9, stddev=0.5, probability=0.5):
    """Apply a few of 15 operations to each image, drawn anew for each: geometry, colours, equalisation, inversion.

    Args:
        images: Array of shape `(batch, height, width, channels)` with 1 or 3 channels, values in 0..255.
        rng: A `numpy.random.Generator`.
        layers: Number of operations, one after the other.
        magnitude: Strength in [0, 10]: 10 is a rotation by 30 degrees, a shift by 45 % of a side, a shear by .3.
        stddev: Standard deviation of the strength from operation to operation.
        probability: Share of the operations that are carried out, in [0, 1]: timm's. The paper's is 1.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` are not such images, or an argument is out of range.

    Example:

    >>> import numpy as np
    >>> rand_augment(np.zeros((4, 32, 32, 3), "uint8"), np.random.default_rng(0), magnitude=6).dtype
    dtype('uint8')

    Reference:
        [Cubuk et al., 2020](https://arxiv.org/abs/1909.13719), section 3.1; operations and ranges are those of timm's
        `rand-m9-mstd0.5-inc1`, which DeiT, ConvNeXt and "ResNet strikes back" were trained with.
    """
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise ValueError(f"layers must be an integer >= 1. Received: layers={layers!r}")
    if not 0 <= magnitude <= MAGNITUDE or stddev < 0 or not 0 <= probability <= 1:
        raise ValueError(
            "magnitude must be in [0, 10], stddev >= 0, probability in [0, 1]. "
            f"Received: magnitude={magnitude}, stddev={stddev}, probability={probability}"
        )
    pictures, finish = _pictures(images)
    shape = (len(images), layers)
    chosen = rng.integers(len(OPERATIONS), size=shape).tolist()
    applied = (rng.random(shape) < probability).tolist()
    strengths = (np.clip(rng.normal(magnitude, stddev, shape), 0, MAGNITUDE) / MAGNITUDE).tolist()
    signs = rng.choice([-1, 1], shape).tolist()
    changed = []
    for picture, *steps in zip(pictures, chosen, applied, strengths, signs, strict=True):
        for operation, apply, strength, sign in zip(*steps, strict=True):
            picture = OPERATIONS[operation](picture, strength, sign) if apply else picture
        changed.append(picture)
    return finish(changed)


def three_augment(images, rng, jitter=0.3):
    """Make each image grey, or solarise it, or blur it, one of the three by chance; then change its colours.

    Args:
        images: Array of shape `(batch, height, width, channels)` with 1 or 3 channels, values in 0..255.
        rng: A `numpy.random.Generator`.
        jitter: All three amounts of `colour_jitter`.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` are not such images, or `jitter` is not in [0, 1].

    Example:

    >>> import numpy as np
    >>> three_augment(np.zeros((4, 32, 32, 3), "uint8"), np.random.default_rng(0)).shape
    (4, 32, 32, 3)

    Reference:
        [Touvron et al., 2022](https://arxiv.org/abs/2204.07118) (DeiT III), section 3.2 and `augment.py` of its code.
    """
    from PIL import ImageFilter, ImageOps

    pictures, finish = _pictures(images)
    which, radius = rng.integers(3, size=len(images)).tolist(), rng.uniform(0.1, 2.0, len(images)).tolist()
    for i, picture in enumerate(pictures):
        if which[i] == 0:
            pictures[i] = ImageOps.grayscale(picture).convert(picture.mode)
        elif which[i] == 1:
            pictures[i] = ImageOps.solarize(picture)
        else:
            pictures[i] = picture.filter(ImageFilter.GaussianBlur(radius[i]))
    return colour_jitter(finish(pictures), rng, jitter, jitter, jitter)


def random_erasing(images, rng, probability=0.25):
    """Fill a box of some of the images with random pixels.

    Args:
        images: Array of shape `(batch, height, width, channels)`, values in 0..255.
        rng: A `numpy.random.Generator`.
        probability: Share of the images that get a box, in [0, 1].

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: If `images` is no batch of images, or `probability` is not in [0, 1].

    Example:

    >>> import numpy as np
    >>> random_erasing(np.zeros((4, 32, 32, 3), "uint8"), np.random.default_rng(0), probability=1.0).any().item()
    True

    Reference:
        [Zhong et al., 2020](https://arxiv.org/abs/1708.04896), algorithm 1, with random values a pixel.
    """
    check_images(images)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be a fraction in [0, 1]. Received: probability={probability!r}")
    n, height, width, channels = images.shape
    (smallest, largest), aspect = ERASED
    chosen = np.flatnonzero(rng.random(n) < probability)
    area, ratio = rng.uniform(smallest, largest, n), np.exp(rng.uniform(np.log(aspect), -np.log(aspect), n))
    heights = np.clip(np.rint(np.sqrt(area * ratio * height * width)), 1, height).astype(int)
    widths = np.clip(np.rint(np.sqrt(area / ratio * height * width)), 1, width).astype(int)
    tops, lefts = (rng.random(n) * (height - heights + 1)).astype(int), (rng.random(n) * (width - widths + 1)).astype(int)
    erased = np.array(images, order="C")
    for i in chosen:
        noise = rng.integers(0, 256, (heights[i], widths[i], channels))
        erased[i, tops[i] : tops[i] + heights[i], lefts[i] : lefts[i] + widths[i]] = noise
    return erased


def _pictures(images):
    """Pillow images of a batch, and the function that makes an array like `images` of a list of them."""
    from PIL import Image

    check_images(images)
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels for Pillow. Received: shape {images.shape}")
    pixels = images
    if images.dtype != np.uint8:
        low, high = float(images.min(initial=0)), float(images.max(initial=0))
        if low < 0 or high > 255:
            raise ValueError(f"images must be raw pixels, 0..255: scaling is in the model. Received: {low:.3g}..{high:.3g}")
        pixels = np.rint(images).astype("uint8")
    pixels = pixels[..., 0] if images.shape[-1] == 1 else pixels

    def finish(pictures):
        return np.stack([np.asarray(p) for p in pictures]).reshape(images.shape).astype(images.dtype, copy=False)

    return [Image.fromarray(p) for p in pixels], finish


def _grey(x):
    return x if x.shape[-1] != 3 else x @ np.array([[0.299], [0.587], [0.114]], "float32")  # (batch, height, width, 1)


def _like(x, images):
    return (np.rint(x) if np.issubdtype(images.dtype, np.integer) else x).astype(images.dtype)


# Operations on one Pillow image: `strength` in [0, 1], `sign` -1 or 1. What comes in from outside is grey.


def _operation(name, picture, strength, sign):
    from PIL import ImageOps

    return getattr(ImageOps, name)(picture)


def _posterize(picture, strength, sign):
    from PIL import ImageOps

    return ImageOps.posterize(picture, max(1, 4 - int(4 * strength)))  # bits that are kept


def _solarize(picture, strength, sign):
    from PIL import ImageOps

    return ImageOps.solarize(picture, 256 - int(256 * strength))


def _solarize_add(picture, strength, sign):
    table = [min(255, i + int(110 * strength)) if i < 128 else i for i in range(256)]
    return picture.point(table * len(picture.getbands()))


def _enhance(name, picture, strength, sign):
    from PIL import ImageEnhance

    return getattr(ImageEnhance, name)(picture).enhance(max(0.1, 1 + 0.9 * strength * sign))


def _rotate(picture, strength, sign):
    from PIL import Image

    return picture.rotate(30 * strength * sign, Image.Resampling.BILINEAR, fillcolor=_fill(picture))


def _affine(horizontal, shear, picture, strength, sign):
    from PIL import Image

    matrix = [1, 0, 0, 0, 1, 0]  # x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5
    if shear:
        matrix[1 if horizontal else 3] = 0.3 * strength * sign
    else:
        side = picture.size[0 if horizontal else 1]
        matrix[2 if horizontal else 5] = 0.45 * strength * sign * side
    bilinear = Image.Resampling.BILINEAR
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, bilinear, fillcolor=_fill(picture))


def _fill(picture):
    return 128 if picture.mode == "L" else (128, 128, 128)


OPERATIONS = (
    *(functools.partial(_operation, name) for name in ("autocontrast", "equalize", "invert")),
    *(functools.partial(_enhance, name) for name in ("Color", "Contrast", "Brightness", "Sharpness")),
    *(functools.partial(_affine, axis, shear) for axis in (True, False) for shear in (True, False)),
    _rotate,
    _posterize,
    _solarize,
    _solarize_add,
)
