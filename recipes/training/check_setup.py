"""Whether a model, its optimizer and the callbacks can train at all: what `recipes.fit` asks before it looks at data."""

import difflib
import os
import warnings

import keras
import numpy as np

from recipes.callbacks.schedule import find_optimizers
from recipes.training.check_targets import loss_kind
from recipes.training.recipe import get_recipe

PATHS = ("filepath", "filename", "backup_dir", "log_dir")  # of the callbacks of Keras that write


def check_setup(model, callbacks, validated):
    """Raise `ValueError` if training `model` would fail later, or do nothing.

    Args:
        model: Compiled model.
        callbacks: List of those that the user passes to `fit`.
        validated: Whether there are validation data.
    """
    if not model.trainable_variables:
        raise ValueError(
            f"{model.name} has nothing to train: all its layers are frozen. Call recipes.unfreeze(model), or set "
            "layer.trainable = True and compile again."
        )
    for optimizer in find_optimizers(model.optimizer):
        if isinstance(optimizer.learning_rate, keras.Variable):
            _check_rate(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    if get_recipe(model).get("training") is None:
        _check_logits(model)
    for callback in callbacks:
        for argument in PATHS:
            path = getattr(callback, argument, None)
            if isinstance(path, (str, os.PathLike)):
                _check_path(f"{type(callback).__name__}({argument}=)", os.fspath(path))
    _check_monitors(model, callbacks, validated)


def check_batch_norm(model, rows):
    """Raise `ValueError` if batches of `rows` examples leave a batch normalization nothing to take a mean of."""
    for layer in model._flatten_layers(include_self=False):
        if rows == 1 and isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and layer._inbound_nodes:
            places = layer._inbound_nodes[0].input_tensors[0].shape[1:-1]
            if None not in places and np.prod(places) == 1:
                raise ValueError(
                    f"batch_size must be at least 2: {layer.name} normalises over the examples of a batch, and of one alone "
                    "nothing is left. Received: batches of 1 example."
                )


def _check_rate(rate):
    if not 0 <= rate < float("inf"):
        raise ValueError(f"learning_rate must be finite and >= 0. Received: learning_rate={rate}")
    if rate == 0:
        warnings.warn("learning_rate is 0: this fit changes no weight but statistics.", stacklevel=4)


def _check_logits(model):
    """Raise `ValueError` if the last activation and the loss of a stranger disagree on what the outputs are."""
    kind, outputs = loss_kind(model), getattr(model, "outputs", None)
    if kind is None or not outputs or len(outputs) != 1:
        return
    last = outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        activation = "softmax"
    else:
        activation = getattr(getattr(last, "activation", None), "__name__", None)
    logits = getattr(model.loss, "from_logits", kind == "classes")
    if activation == "softmax" and outputs[0].shape[-1] == 1:
        raise ValueError(
            f"{last.name}: the softmax over one unit is always 1. Use two units, or a sigmoid and binary_crossentropy."
        )
    if logits and activation in ("softmax", "sigmoid"):
        raise ValueError(
            f"{last.name} ends in {activation} and the loss takes logits: probabilities would be squashed twice. Leave out "
            "the activation, or compile with from_logits=False."
        )
    if not logits and activation == "linear":
        raise ValueError(
            f"{last.name} has no activation, so it puts out logits, and the loss takes probabilities: compile with "
            "from_logits=True, or end in softmax (sigmoid for binary_crossentropy)."
        )


def _check_path(argument, path):
    """Raise `ValueError` unless something can be written at `path`."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        why = "cannot be written to" if os.path.isdir(folder) else "is not a folder"
        raise ValueError(f"{argument} must be a path that can be written. Received: {path!r}, and {folder!r} {why}.")


def _check_monitors(model, callbacks, validated):
    """Raise `ValueError` if a callback watches what no epoch will report; not among callbacks that may report more."""
    if any(type(callback).__module__.partition(".")[0] not in ("keras", "recipes") for callback in callbacks):
        return
    names = log_names(model)
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not getattr(callback, "save_best_only", True) or names is None:
            continue
        if monitor.startswith("val_") and monitor[4:] in names and not validated:
            raise ValueError(
                f"{type(callback).__name__} has monitor={monitor!r}, which needs validation data: pass validation=(x, y) "
                "or a fraction such as 0.1."
            )
        known = [*names, *(f"val_{name}" for name in names)] if validated else list(names)
        if monitor not in known and not monitor.startswith("learning_rate"):
            near = difflib.get_close_matches(monitor, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{type(callback).__name__} must monitor one of {', '.join(map(repr, known))}. "
                f"Received: monitor={monitor!r}.{hint}"
            )


def log_names(model):
    """Return the names of what `model` reports an epoch, validation left out, or `None` if they are not known yet."""
    compiled = getattr(model, "_compile_metrics", None)
    given = [] if compiled is None else [compiled._user_metrics or [], compiled._user_weighted_metrics or []]
    if get_recipe(model).get("training", {}).get("task") == "generate" or len(getattr(model, "outputs", None) or ()) != 1:
        return None
    if not all(isinstance(part, (list, tuple)) for part in given):
        return None
    names = ["loss", "learning_rate"]
    for metric in [metric for part in given for metric in part]:
        names.append(metric if isinstance(metric, str) else getattr(metric, "name", getattr(metric, "__name__", None)))
    return None if None in names else names
