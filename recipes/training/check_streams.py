"""Streams are checked batch by batch as they arrive, and the error names the batch."""

import contextlib
import functools
import warnings
import weakref

import keras
import numpy as np

from recipes.data.batches import Batches
from recipes.data.streams import watched
from recipes.training.check_targets import count_classes
from recipes.training.checks import check_arrays, check_leaves, warn_range
from recipes.training.language import LanguageModel
from recipes.training.recipe import get_recipe

_found = weakref.WeakKeyDictionary()  # model -> what its stream raised, which TensorFlow turns into an error of its own


def check_stream(model, data, name):
    """Return the stream `data` so that every batch is checked for `model` before a step is made with it.

    Args:
        model: Compiled model.
        data: `tf.data.Dataset` or `keras.utils.PyDataset`; `recipes.data.Batches` are checked at once, whole.
        name: `"data"` or `"validation"`.

    Returns:
        Data of the same kind; anything else as it is.

    Raises:
        ValueError: If the stream has no end or no batch.
    """
    if isinstance(data, Batches):
        check_arrays(model, data.x, data.y, name=name, classes=count_classes(model))
        return data

    def look(index, batch):
        check_batch(model, batch, f"{name} batch {index}")
        if index == 0:
            warn_range(model, batch[0] if isinstance(batch, tuple) else batch)

    return watched(data, look, functools.partial(_found.__setitem__, model), name)


def check_batch(model, batch, name):
    """Raise `ValueError` unless `batch`, what a stream gave, is `(x, y)` or `(x, y, sample_weight)` that fits `model`."""
    batch = batch if isinstance(batch, (tuple, list)) else (batch,)
    if len(batch) > 3:
        raise ValueError(f"{name} must be (x, y) or (x, y, sample_weight). Received: {len(batch)} parts")
    x, y, weight = (*batch, None, None)[:3]
    if y is None and getattr(model, "loss", None) is not None and not isinstance(model, LanguageModel):
        raise ValueError(f"{name} has no targets: let the data give (x, y). Received: x alone")
    if hasattr(model, "check_data"):
        x, y = model.check_data(x, y, name=name)
    elif isinstance(x, (tuple, list)) or isinstance(y, (tuple, list, dict)):  # several inputs or outputs, of a stranger
        check_leaves(x, f"{name} x", get_recipe(model).get("allow_nonfinite", False))
        check_leaves(y, f"{name} y")
    else:
        x, y = check_arrays(model, x, y, name=name, classes=count_classes(model))
    if weight is not None:
        weight = np.asarray(weight)
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError(f"{name} sample_weight must be finite and >= 0. Received: {weight.min()}..{weight.max()}")


class EveryEpoch(keras.callbacks.Callback):
    """Ends the training if an epoch has fewer batches than one before: a stream that cannot be read again."""

    async_safe = True

    def __init__(self):
        super().__init__()
        self.most = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if self.batches < max(1, self.most):
            raise ValueError(
                f"data gave {self.batches} batches in epoch {epoch + 1} and {self.most} before: they must be readable anew "
                "for every epoch. Pass arrays, a keras.utils.PyDataset, or tf.data.Dataset.from_generator(function, ...), "
                "where function() makes a new generator."
            )
        self.most = max(self.most, self.batches)


@contextlib.contextmanager
def stream_errors(model):
    """Raise what a stream raised, and not what TensorFlow made of it."""
    _found.pop(model, None)
    try:
        yield
    except Exception as error:
        found = _found.pop(model, None)
        if found is None or found is error:
            raise
        raise found from None


def stream_callbacks(model, data):
    """Return the callbacks that watch a fit of `model` on `data` for what no batch shows alone."""
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return [*([] if isinstance(data, Batches) else [EveryEpoch()]), *([SkippedSteps()] if scaled else [])]


class SkippedSteps(keras.callbacks.Callback):
    """Says how many steps a `LossScaleOptimizer` left out because float16 overflowed; all of an epoch end the training."""

    def on_epoch_begin(self, epoch, logs=None):
        self.before, self.batches = self._updates(), 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        skipped = self.batches - (self._updates() - self.before)
        if skipped == self.batches:
            raise FloatingPointError(
                f"All {skipped} steps of epoch {epoch + 1} were left out: gradients overflow float16 at every loss scale "
                'that was tried. Train longer for the scale to fall, in "mixed_bfloat16", or in float32.'
            )
        if skipped:
            warnings.warn(f"float16 overflowed in {skipped} of {self.batches} steps, which were left out.", stacklevel=2)

    def _updates(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.inner_optimizer._iterations))
