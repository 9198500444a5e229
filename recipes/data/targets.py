"""Targets of any kind to class ids or float32."""

import numpy as np


def encode_targets(parts, task=None):
    """Turn targets into class ids or numbers to regress.

    Args:
        parts: Dict of arrays `(samples,)` or `(samples, columns)`, with a key `"train"`: texts, integers or floats.
        task: `"classify"`, `"regress"`, or `None`: regress if they are floats.

    Returns:
        `(parts, task, class_names, num_classes)`: ids int32 in the order of the sorted labels and the labels as texts;
        or float32, `None` and the number of columns.

    Raises:
        ValueError: If the targets are neither, or a label occurs only outside the training part.
    """
    parts = {name: _column(y, name) for name, y in parts.items()}
    train = parts["train"]
    text = train.dtype.kind == "U"
    if task is None:
        task = "regress" if train.dtype.kind == "f" else "classify"
    if task == "regress":
        if text:
            raise ValueError(f"task='regress' needs numbers, but the targets are texts such as {str(train.flat[0])!r}.")
        columns = 1 if train.ndim == 1 else train.shape[1]
        return {name: y.astype("float32") for name, y in parts.items()}, task, None, columns
    if train.ndim != 1:
        raise ValueError(
            f"The targets of a classification must be one label a sample, shape (samples,). Received: {train.shape}. "
            "Turn one-hot rows into labels by y.argmax(axis=1), or pass task='regress' for several numbers a sample."
        )
    if train.dtype.kind == "f" and (train != np.rint(train)).any():
        fraction = train[train != np.rint(train)][0]
        raise ValueError(f"task='classify' needs whole numbers or texts. The targets hold {fraction:g}.")
    if train.dtype.kind == "f":
        parts = {name: y.astype("int64") for name, y in parts.items()}
    labels = np.unique(parts["train"])
    if len(labels) < 2:
        raise ValueError(f"The targets hold one class only, {labels[0].item()!r}: there is nothing to tell apart.")
    encoded = {}
    for name, y in parts.items():
        unseen = np.setdiff1d(y, labels)
        if len(unseen):
            raise ValueError(f"The {name} part has classes that the training part has not: {unseen[:10].tolist()}")
        encoded[name] = np.searchsorted(labels, y).astype("int32")
    return encoded, task, tuple(str(label) for label in labels.tolist()), len(labels)


def _column(y, name):
    y = np.asarray(y)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind not in "biufU" or y.ndim not in (1, 2):
        raise ValueError(
            f"Targets must be texts or numbers of shape (samples,) or (samples, columns). "
            f"Received: {y.dtype} {y.shape} in the {name} part"
        )
    if y.dtype.kind == "f" and not np.isfinite(y.astype("float32")).all():
        raise ValueError(f"The targets of the {name} part hold NaN or numbers beyond float32. Remove those samples.")
    return y.astype("int64") if y.dtype.kind in "bu" else y
