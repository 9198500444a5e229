"""`image_folder`: folders of images that need not fit in memory, decoded when a batch asks for them."""

import concurrent.futures
import functools
import os
import pathlib
import warnings

import numpy as np

from recipes.data.images import decode, list_images, open_image, quiet
from recipes.data.loading import Data, Info, check_splits, complete, pair_of_sides
from recipes.data.splitting import LazyRows

SHOWN = 20  # files that a message names


def image_folder(
    path,
    *,
    image_size,
    channels=3,
    validation=0.1,
    test=0.0,
    broken="refuse",
    classes=None,
    batch_size=None,
    resize="crop",
    seed=0,
):
    """Read class folders of images without holding them in memory: every batch is decoded when it is asked for.

    As `load` on the same folder, whose layouts it takes (a folder a class, or `train`, `test`, `val` folders of those),
    but for any number of images: JPEG, PNG, WebP, BMP, GIF (the first frame), TIFF and PPM, upright as their EXIF data
    say, on white where they are transparent. Batches are decoded on as many threads as there are cores while the model
    trains on those before.

    All files are looked at first, which takes some seconds for ten thousand: what is no image, or cut short, is refused
    or skipped as `broken` says. An image of more than `PIL.Image.MAX_IMAGE_PIXELS` counts as broken. Damage in the
    middle of a JPEG shows only when it is decoded; the error names the file then.

    Args:
        path: The folder.
        image_size: `(height, width)` in pixels, or one number for both, that every image gets.
        channels: 3, or 1 for grey.
        validation: Share of the images to choose by, in [0, 1), where the folder brings none; 0 for none.
        test: Share of the images to measure with, in [0, 1), where the folder brings none; 0 for none.
        broken: What happens if files cannot be read: `"refuse"` raises and names them, `"skip"` leaves them out and
            warns with their names.
        classes: Names of the class folders to take, in the order of their ids; `None`: all, by name.
        batch_size: `None` for parts that are `(images, labels)`, as `load` returns them and `recipes.fit` takes them; a
            number for parts that are `Batches`, for Keras: `model.fit(data.train, validation_data=data.validation)`.
            `recipes.fit` takes those too.
        resize: What becomes of another aspect ratio: `"crop"` to the middle, `"squash"`, or `"pad"` with black.
        seed: Whole number that decides the split, and the order of `Batches`.

    Returns:
        `Data(train, validation, test, info)`. The images act as a uint8 array `(samples, height, width, channels)`:
        `images[rows]` decodes those rows. The labels are int32 `(samples,)`.

    Raises:
        ValueError: If an argument is out of its range, the folder has another layout, or a file is broken.

    Example:

    >>> import os
    >>> from PIL import Image
    >>> for i, name in enumerate(["cat", "cat", "dog", "dog"]):
    ...     os.makedirs(f"pets/{name}", exist_ok=True)
    ...     Image.new("RGB", (40, 30), name == "dog" and "tan").save(f"pets/{name}/{i}.webp")
    >>> data = image_folder("pets", image_size=16, validation=0)
    >>> images, labels = data.train
    >>> images.shape, images[:2].shape, data.info.class_names
    ((4, 16, 16, 3), (2, 16, 16, 3), ('cat', 'dog'))
    """
    image_size = pair_of_sides(image_size)
    for argument, value, allowed in (
        ("channels", channels, (1, 3)),
        ("broken", broken, ("refuse", "skip")),
        ("resize", resize, ("crop", "squash", "pad")),
    ):
        if value not in allowed:
            raise ValueError(f"{argument} must be {' or '.join(map(repr, allowed))}. Received: {argument}={value!r}")
    check_splits(validation, test, seed)
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"path must be a folder of class folders. Received: path={str(path)!r}, which is none")
    if isinstance(classes, str) or (classes is not None and len(set(classes)) < len(classes)):
        raise ValueError(f"classes must be a list of different names of folders. Received: classes={classes!r}")

    foreign = [] if broken == "skip" else None
    listed, class_names = list_images(folder, classes, foreign)
    faults = {str(file): "it is no image by its ending" for file in foreign or ()}
    faults |= find_broken([file for files in listed.values() for file, _ in files])
    if faults:
        _report(faults, broken)
    parts = {}
    for part, files in listed.items():
        files = [(str(file), label) for file, label in files if str(file) not in faults]
        labels = np.array([label for _, label in files], "int32")
        lost = [name for i, name in enumerate(class_names) if part == "train" and i not in labels]
        if lost:
            raise ValueError(f"{folder}: no image of class {lost[0]!r} can be read. Repair it, or leave it out of classes.")
        parts[part] = (np.array([file for file, _ in files], dtype=object), labels)
    parts = complete(parts, validation, test, seed, stratify=True)
    parts = {part: (ImageFiles(files, image_size, channels, resize), y) for part, (files, y) in parts.items()}
    info = Info(str(path), "classify", len(class_names), (*image_size, channels), class_names)
    if batch_size is not None:
        from recipes.data.batches import Batches

        parts = {part: Batches(*pair, batch_size, seed=seed, shuffle=part == "train") for part, pair in parts.items()}
    return Data(parts["train"], parts.get("validation"), parts.get("test"), info)


class ImageFiles(LazyRows):
    """Images in files, as a uint8 array `(samples, height, width, channels)` that decodes the rows it is asked for.

    Args:
        files: Sequence of paths, one a row.
        image_size: `(height, width)` in pixels.
        channels: 3, or 1 for grey.
        resize: `"crop"`, `"squash"` or `"pad"`.

    Attributes:
        files: Array of the paths.
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __init__(self, files, image_size, channels=3, resize="crop"):
        self.files = np.asarray(files, dtype=object)
        self.image_size, self.channels, self.resize = image_size, channels, resize

    @property
    def shape(self):
        """`(samples, height, width, channels)`."""
        return (len(self.files), *self.image_size, self.channels)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, rows):
        """Decode the image of a row number, or those of a slice or of an array of row numbers."""
        chosen = self.files[rows]
        read = functools.partial(decode, size=self.image_size, channels=self.channels, fit=self.resize)
        if isinstance(chosen, str):
            return read(chosen)
        images = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for image, decoded in zip(images, _threads().map(read, chosen), strict=True):
            image[...] = decoded
        return images

    def __array__(self, dtype=None, copy=None):
        """Decode everything: `numpy.asarray(images)`."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def subset(self, rows):
        """The images of some rows, not decoded."""
        return ImageFiles(self.files[rows], self.image_size, self.channels, self.resize)

    def __repr__(self):
        return f"ImageFiles(shape={self.shape}, dtype=uint8)"


@functools.cache
def _threads():
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")


def find_broken(files):
    """Return `{path: what is wrong}` of the files that are no images or are cut short."""
    with quiet():
        found = dict(zip(map(str, files), _threads().map(_fault, files), strict=True))
    return {file: fault for file, fault in found.items() if fault}


def _fault(file):
    """What is wrong with a file, or `None`. What its container cannot prove to be whole is decoded."""
    try:
        with open_image(file) as image:
            kind = image.format
            image.verify()  # of a PNG the checksums, of others little
        if kind != "PNG" and not _has_its_end(file, kind):
            decode(file)
    except Exception as error:
        return str(error).removeprefix(f"{file} cannot be read as an image: ")
    return None


def _has_its_end(file, kind):
    if kind == "JPEG":  # ends with a marker; there may be something behind, so its lack proves nothing
        with open(file, "rb") as stream:
            stream.seek(-2, os.SEEK_END)
            return stream.read() == b"\xff\xd9"
    if kind == "WEBP":  # its first bytes say how long it is
        with open(file, "rb") as stream:
            return int.from_bytes(stream.read(8)[4:], "little") + 8 <= os.path.getsize(file)
    return False


def _report(faults, broken):
    """Raise or warn about broken files."""
    some = "\n".join(f"  {file}: {fault}" for file, fault in list(faults.items())[:SHOWN])
    rest = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    if broken == "refuse":
        raise ValueError(
            f'{len(faults)} files cannot be read as images. Repair or remove them, or pass broken="skip":\n{some}{rest}'
        )
    warnings.warn(f"skipped {len(faults)} files that cannot be read as images:\n{some}{rest}", stacklevel=3)
