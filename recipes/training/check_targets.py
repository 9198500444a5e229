"""Whether targets are what the model's loss and outputs mean, and validation data what they should be."""

import warnings

import keras
import numpy as np

from recipes.training.losses import CrossEntropy
from recipes.training.recipe import get_recipe

LOSSES = {
    keras.losses.SparseCategoricalCrossentropy: "ids",
    keras.losses.CategoricalCrossentropy: "one-hot",
    keras.losses.BinaryCrossentropy: "binary",
}


def loss_kind(model):
    """Return what targets the loss of `model` takes: `"ids"`, `"one-hot"`, `"classes"` for both, `"binary"`; else `None`."""
    task = get_recipe(model).get("training", {}).get("task")
    if task is not None:
        return {"classify": "classes", "multilabel": "binary"}.get(task)
    loss = getattr(model, "loss", None)
    if isinstance(loss, CrossEntropy):
        return "classes"
    if isinstance(loss, str):
        loss = keras.losses.get(loss)  # a function
    for cls, kind in LOSSES.items():
        if isinstance(loss, cls) or getattr(loss, "__name__", "") == cls().name:
            return kind
    return None


def count_classes(model):
    """Return the number of classes that targets are ids of, or `None` where they are something else."""
    if loss_kind(model) not in ("classes", "ids", "one-hot") or len(getattr(model, "outputs", None) or ()) != 1:
        return None
    return model.output_shape[-1]


def check_targets(model, y, classes, name):
    """Raise `ValueError` unless the array `y` holds targets of `model`, class ids below `classes` if that is not `None`."""
    kind = loss_kind(model)
    if kind == "binary" and (y.min() < 0 or y.max() > 1):
        raise ValueError(
            f"{name} labels must be 0/1, or probabilities between. Received: {y.min()}..{y.max()}; pass (y > 0).astype(int)."
        )
    if classes is None:
        return
    whole = kind in ("ids", "one-hot") and y.shape[-1] == classes and y.ndim == len(model.output_shape)
    if kind == "ids" and whole and classes > 1:
        raise ValueError(
            f"{name} holds a number a class, and the loss takes class ids: pass y.argmax(axis=-1), or compile with "
            f"recipes.CrossEntropy(), which takes both. Received: shape {y.shape}"
        )
    if kind == "one-hot" and not whole:
        raise ValueError(
            f"{name} holds class ids, and the loss takes a number a class: pass keras.utils.to_categorical(y, {classes}), "
            f"or compile with recipes.CrossEntropy(), which takes both. Received: shape {y.shape}"
        )
    _check_labels(y, classes, name)


def _check_labels(y, classes, name):
    if y.ndim > 1 and y.shape[-1] == classes:  # one-hot or soft
        if (y < 0).any() or np.abs(y.sum(axis=-1) - 1).max() > 1e-3:
            raise ValueError(f"{name} must be probabilities that sum to 1 a row, or class ids. Received: shape {y.shape}")
        return
    if y.ndim > 2 or (y.ndim == 2 and y.shape[-1] != 1):
        raise ValueError(
            f"{name} must be class ids (examples,) or probabilities (examples, {classes}). Received: shape {y.shape}"
        )
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise ValueError(f"{name} must be whole class ids. Received a fraction: {y[y != np.round(y)].flat[0]}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        fix = "Subtract 1 from y" if low == 1 and high == classes else f"Build the model with num_classes={high + 1}"
        if low < 0:
            fix = "Number the classes from 0"
        raise ValueError(f"{name} labels span {low}..{high}, but the model has {classes} classes, 0..{classes - 1}. {fix}.")


def check_validation(x, y, held_x, held_y, classes):
    """Raise or warn if validation arrays cannot tell what the training arrays teach; say so if these have one class."""
    if x is held_x or _same(x, held_x):
        warnings.warn("validation holds the training data: it cannot show what the model has not seen.", stacklevel=4)
    if classes is None:
        return
    known, asked = set(class_ids(y, classes)), set(class_ids(held_y, classes))
    if asked - known:
        raise ValueError(
            f"validation y has classes that no training example has: {sorted(asked - known)[:20]}. Leave them out, or "
            "divide all data anew with validation=0.1, which keeps the share of every class."
        )


def class_ids(y, classes):
    """Return the sorted ids of the classes that targets `y`, ids or probabilities, name."""
    y = np.asarray(y)
    if y.ndim > 1 and y.shape[-1] == classes:
        y = y.argmax(axis=-1)
    return np.flatnonzero(np.bincount(y.reshape(-1).astype("int64"), minlength=classes)).tolist()


def warn_one_class(y, classes):
    """Warn if all targets are of one class."""
    if classes is None or classes < 2:
        return
    known = class_ids(y, classes)
    if len(known) == 1:
        warnings.warn(f"data y has one class alone, {known[0]}, of {classes}: there is nothing to tell apart.", stacklevel=4)


def _same(x, other):
    """Whether two inputs hold the same rows in the same order."""
    if isinstance(x, dict):
        return isinstance(other, dict) and all(_same(x[key], other.get(key)) for key in x)
    return (
        isinstance(x, np.ndarray) and isinstance(other, np.ndarray) and x.shape == other.shape and np.array_equal(x, other)
    )
