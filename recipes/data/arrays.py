"""Arrays in an `.npz` file."""

import warnings
import zipfile
import zlib

import numpy as np

from recipes.data.images import resize
from recipes.data.loading import Source
from recipes.data.targets import encode_targets

SPLITS = {"train": "_train", "test": "_test", "validation": "_val"}


def read_npz(path, task, image_size):
    """Read `x_train`, `y_train`, ... or `x`, `y` from an `.npz`; nothing in it is unpickled."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz archive, or is cut short. Write it by numpy.savez.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            found = {part: end for part, end in SPLITS.items() if {f"x{end}", f"y{end}"} <= set(names)}
            if "train" not in found:
                found = {"train": ""} if {"x", "y"} <= set(names) else {}
            arrays = {part: [_member(archive, path, f"{kind}{end}") for kind in "xy"] for part, end in found.items()}
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is a damaged .npz archive ({error}). Write it again by numpy.savez.") from error
    if not found:
        raise ValueError(
            f"{path} must hold x_train, y_train, x_test, y_test, or x and y. Received: {', '.join(names)}. "
            "Save it again with such names."
        )
    if "train" not in arrays or any(len(x) != len(y) or len(x) == 0 for x, y in arrays.values()):
        lengths = {part: (len(x), len(y)) for part, (x, y) in arrays.items()}
        raise ValueError(f"{path}: x and y must have the same number of samples, at least one. Received: {lengths}")
    inputs = {part: check_inputs(x, f"{path}: x{found[part]}") for part, (x, _) in arrays.items()}
    shapes = {part: x.shape[1:] for part, x in inputs.items()}
    if image_size is not None:
        inputs = {part: resize(x, image_size) for part, x in inputs.items()}
    elif len(set(shapes.values())) > 1:
        raise ValueError(f"{path}: the samples of all parts must have one shape. Received: {shapes}")
    targets, task, class_names, num_classes = encode_targets({part: y for part, (_, y) in arrays.items()}, task)
    return Source({part: (x, targets[part]) for part, x in inputs.items()}, task, num_classes, class_names)


def _member(archive, path, name):
    try:
        return archive[name]
    except ValueError as error:
        raise ValueError(f"{path}: array {name} cannot be read: {error}. Save numbers or texts.") from error


def check_inputs(x, name):
    """Return inputs as the builders take them: images with a channel axis, floats float32, integers as they are."""
    if x.dtype.kind not in "biuf" or x.ndim < 1:
        raise ValueError(f"{name} must be an array of numbers, one row a sample. Received: {x.dtype} {x.shape}")
    if x.dtype == "uint8" and x.ndim == 3:
        return x[..., None]  # (samples, height, width, 1)
    if x.dtype == "uint8" and x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3, 4):
        raise ValueError(f"{name} looks like images with channels first, {x.shape}. Save x.transpose(0, 2, 3, 1).")
    if x.ndim == 1:
        x = x[:, None]
    if x.dtype.kind == "b":
        return x.astype("float32")
    if x.dtype.kind != "f":
        return x
    with np.errstate(over="ignore"):
        x = x.astype("float32")
    finite = np.isfinite(x)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name} holds NaN or a number beyond float32, first at {where}. Remove or replace it.")
    if x.ndim == 4 and x.min() >= 0 and 0 < x.max() <= 1:
        warnings.warn(f"{name} looks like images scaled to 0..1. The builders take 0..255: save 255 * x.", stacklevel=5)
    return x
