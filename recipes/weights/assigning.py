"""Give tensors of another library to a model: every variable exactly once, all or nothing."""

import re
import warnings

import numpy as np

from recipes.weights.errors import LeftRandom
from recipes.weights.reading import read_shapes, read_state_dict

IGNORED = r"num_batches_tracked$"  # torch's BatchNorm counts its batches; Keras does not
SHOWN = 6  # names of each kind in an error


def load(model, path, mapping, *, optional_head=()):
    """Read a weights file and assign it; names and shapes are checked before a tensor is read. See `assign`."""
    _match(model, mapping, read_shapes(path), optional_head)
    return assign(model, mapping, read_state_dict(path), optional_head=optional_head)


def assign(model, mapping, tensors, *, optional_head=()):
    """Give each variable of `model` its tensor; if anything at all does not fit, change nothing.

    Args:
        model: Model or layer. Seeds of random layers are not weights and stay.
        mapping: Dict of variable path to `(name of the tensor, axes)`; `axes` transposes the tensor, `None` leaves it.
        tensors: Dict of name to array. torch's `num_batches_tracked` are ignored.
        optional_head: Names of layers that may stay as they are if their shapes differ, as those of another number of
            classes do: all of them or none. A warning names their variables.

    Returns:
        List of the paths of the variables left as they were.

    Raises:
        ValueError: If a variable or a tensor is left over, a shape differs, or a tensor is not finite floats. Nothing
            was assigned then.
    """
    shapes = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    left = _match(model, mapping, shapes, optional_head)
    values = []
    for variable in model.weights:
        if variable.path in left:
            continue
        name, axes = mapping[variable.path]
        array = tensors[name] if axes is None else np.transpose(tensors[name], axes)
        with np.errstate(over="ignore"):
            array = np.asarray(array, dtype="float32", order="C")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"weights: tensor {name!r} has values that are not finite in float32. Nothing was loaded.")
        values.append((variable, array))
    for variable, array in values:
        variable.assign(array)
    if left:
        text = f"weights: left random, as the file has no head of this shape: {', '.join(left)}"
        warnings.warn(LeftRandom(text, left))
    return left


def _match(model, mapping, shapes, optional_head):
    """Return the paths of the head if it must stay as it is; raise `ValueError` unless all else fits."""
    paths = [variable.path for variable in model.weights]
    if len(set(paths)) != len(paths):
        raise ValueError("weights: two variables of the model have the same path. Give every layer its own name.")
    head = [path for path in paths if set(path.split("/")) & set(optional_head)]
    body_problems, head_problems = {}, {}
    for path, variable in zip(paths, model.weights, strict=True):
        name, axes = mapping.get(path, (None, None))
        problems = head_problems if path in head else body_problems
        if name not in shapes:
            problems.setdefault("variables without a tensor", []).append(f"{path} ({name})" if name else path)
            continue
        shape, dtype = shapes[name]
        shape = tuple(shape[axis] for axis in axes) if axes and len(axes) == len(shape) else tuple(shape)
        if shape != tuple(variable.shape):
            text = f"{path} is {tuple(variable.shape)}, {name} gives {shape}"
            problems.setdefault("other shapes", []).append(text)
        elif dtype.kind != "f":
            body_problems.setdefault("not floating point", []).append(f"{name} is {dtype}")
    used = {name for name, _ in mapping.values()}
    unexpected = [name for name in shapes if name not in used and not re.search(IGNORED, name)]
    if unexpected:
        body_problems["tensors without a variable"] = unexpected
    if body_problems:
        found = "; ".join(f"{len(texts)} {kind}: {_some(texts)}" for kind, texts in body_problems.items())
        raise ValueError(
            f"weights do not fit the model {model.name!r}, nothing was loaded. {found}. "
            "Pass the file of this very variant, or build the variant that the file was made for."
        )
    return head if head_problems else []


def _some(texts):
    rest = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
