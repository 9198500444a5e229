"""Numbers that are no longer finite: the update they would spoil is left out, and training stops with what is wrong."""

import math
import types

import keras
import numpy as np
from keras import ops


def guard(model):
    """Let the optimizer of `model` leave out an update whose gradients are not all finite; its counter then stands still.

    It costs one look at every gradient. Not under a strategy of several replicas, whose updates TensorFlow cannot make
    conditional, nor where a `LossScaleOptimizer` does the same already.
    """
    optimizer = model.optimizer
    strategy = getattr(model, "distribute_strategy", None)
    if getattr(strategy, "num_replicas_in_sync", 1) > 1 or not hasattr(optimizer, "_iterations"):
        return
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or keras.backend.backend() not in ("tensorflow", "jax"):
        return
    if "apply" in vars(optimizer) or "stateless_apply" in vars(optimizer):
        return  # as a fit before this one has left it
    if keras.backend.backend() == "jax":
        optimizer.stateless_apply = types.MethodType(_stateless_apply, optimizer)
    else:
        optimizer.apply = types.MethodType(_apply, optimizer)
    model.train_function = None  # it holds the optimizer as it was


def _apply(self, grads, trainable_variables=None):
    grads = list(grads)
    if trainable_variables is not None and not self.built:
        self.build(list(trainable_variables))  # not within a branch
    ops.cond(_all_finite(grads), lambda: _done(type(self).apply(self, grads, trainable_variables)), lambda: True)


def _done(_):
    return True


def _stateless_apply(self, optimizer_variables, grads, trainable_variables):
    new = type(self).stateless_apply(self, optimizer_variables, grads, trainable_variables)
    finite = _all_finite(grads)
    old = (trainable_variables, optimizer_variables)
    return tuple([ops.where(finite, n, o) for n, o in zip(*pair, strict=True)] for pair in zip(new, old, strict=True))


def _all_finite(grads):
    rows = [g.values if type(g).__name__ == "IndexedSlices" else g for g in grads if g is not None]
    return ops.all(ops.isfinite(ops.stack([ops.sum(ops.cast(g, "float32")) for g in rows])))


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises `FloatingPointError` after a step whose loss or gradients were not finite.

    Args:
        batches: `recipes.data.Batches` that are trained on, to look for the reason in; or anything else.
    """

    async_safe = True  # the loss is noted in `on_train_batch_end`, in whatever thread, and judged before the next step

    def __init__(self, batches=None):
        super().__init__()
        self.batches = batches

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._bad, self._start, self._pending = epoch, None, None, None

    def on_train_batch_begin(self, batch, logs=None):
        self.check(batch)

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss) and self._bad is None:
            self._bad = batch

    def on_test_begin(self, logs=None):
        self.check(None)

    def on_epoch_end(self, epoch, logs=None):
        self.check(None)

    def check(self, batch, exact=False):
        """Raise if one of the batches before `batch` of this epoch was bad; all are known to be done if it is `None`.

        The last of them may be judged at the next call only, unless `exact`.
        """
        if self._bad is not None:
            self._stop(self._bad)
        # The counter of the step before last: to wait for that of the last would leave an accelerator without work.
        if self._pending is not None and (batch is None or batch > self._pending[0]):
            number, count = self._pending
            if int(ops.convert_to_numpy(count)) < self._start[1] + number - self._start[0]:
                self._stop(number - 1)
        count = self._count()
        if count is None:
            return
        if batch is None:
            known, pending, self._pending = self.params.get("steps"), self._pending, None
            # without a known length the last batch may have begun and not have been there
            if known and pending is not None and int(ops.convert_to_numpy(count)) == int(ops.convert_to_numpy(pending[1])):
                self._stop(pending[0])
        else:
            self._start = self._start or (batch, int(ops.convert_to_numpy(count)))
            if exact and int(ops.convert_to_numpy(count)) < self._start[1] + batch - self._start[0]:
                self._stop(batch - 1)
            self._pending = (batch, ops.copy(count))

    def _count(self):
        """The optimizer's counter of batches, without taking the state of a model on JAX out of its loop."""
        model = self._model
        optimizer = model.optimizer
        if optimizer is None or not {"apply", "stateless_apply"} & set(vars(optimizer)):
            return None
        if getattr(model, "_jax_state", None) and not model._jax_state_synced:
            index = next(i for i, v in enumerate(optimizer.variables) if v is optimizer._iterations)
            return model._jax_state["optimizer_variables"][index]
        return optimizer._iterations.value

    def _stop(self, batch):
        model = self.model
        where = f"epoch {self._epoch + 1}, batch {batch} (counted from 0)"
        reason = find_reason(model, self.batches, self._epoch, batch)
        rate = getattr(model.optimizer, "learning_rate", None)
        raise FloatingPointError(
            f"Training stopped at {where}: {reason}. If the data are right, build the model with a smaller learning_rate "
            f"(it is {_short(rate)} at this step) or with global_clipnorm=1.0, train with a longer warmup, or in float32."
        )


def find_reason(model, batches, epoch, batch):
    """Return what is not finite in a batch: the data, the output of a layer, the loss, or the gradient of a weight."""
    bad = [v.path for v in model.trainable_variables if not bool(_all_finite([v]))]
    found = f"the weight {bad[0]} is not finite" if bad else "the loss or a gradient is not finite"
    if not hasattr(batches, "batch"):
        return f"{found}, or the data of that batch are not"
    x, *rest = batches.batch(epoch, batch)
    for name, part in (("x", x), ("y", rest[0] if rest else None)):
        for leaf in [] if part is None else keras.tree.flatten(part):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                place = [int(i) for i in np.argwhere(~np.isfinite(leaf))[0]]
                return f"{name} holds {leaf[tuple(place)]} at {place} of the batch, as augmentation or mixing made it"
    if bad:
        return found
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    try:
        return _in_layers(model, x) or _in_gradients(model, x, *rest) or found
    finally:  # the looking must not move statistics and seeds
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)


def _in_layers(model, x):
    """Name the first layer whose output is not finite, or return `None`."""
    try:
        layers = [layer for layer in model.layers if layer._inbound_nodes and not isinstance(layer.output, (list, dict))]
        floats = [layer for layer in layers if keras.backend.is_float_dtype(layer.output.dtype)]
        outputs = keras.Model(model.input, [layer.output for layer in floats])(x, training=True)
    except (AttributeError, ValueError):  # no graph of layers
        return None
    for layer, output in zip(floats, outputs, strict=True):
        if not bool(ops.all(ops.isfinite(output))):
            return f"the output of the layer {layer.name} is not finite"
    return None


def _in_gradients(model, x, y=None, sample_weight=None):
    """Name the weight nearest to the loss whose gradient is not finite, or return `None`."""
    names = [v.path for v in model.trainable_variables]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), sample_weight, training=True)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    else:
        import jax

        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.metrics_variables,
            model.optimizer.variables,
        )
        weights, others, metrics, optimizer = ([v.value for v in group] for group in groups)
        more = {"training": True, "optimizer_variables": optimizer}

        def loss_of(weights):
            return model.compute_loss_and_updates(weights, others, metrics, x, y, sample_weight, **more)[0]

        gradients = jax.grad(loss_of)(weights)
    bad = [name for name, g in zip(names, gradients, strict=True) if g is not None and not bool(_all_finite([g]))]
    return f"the gradient of {bad[-1]} and of {len(bad) - 1} other weights is not finite" if bad else None


def _short(rate):
    return "unknown" if rate is None else f"{float(ops.convert_to_numpy(rate)):.2g}"
