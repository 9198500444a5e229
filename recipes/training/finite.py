"""Numbers that are no longer finite: the update they would spoil is left out, and training stops with what is wrong."""

import functools
import math
import time
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
    apply_finite(functools.partial(type(self).apply, self), grads, trainable_variables)


def apply_finite(apply, grads, variables):
    """Call `apply(grads, variables)`, which returns nothing, if the gradients are finite."""

    def run():
        apply(grads, variables)
        return True

    ops.cond(all_finite(grads), run, lambda: True)


def _stateless_apply(self, optimizer_variables, grads, trainable_variables):
    new = type(self).stateless_apply(self, optimizer_variables, grads, trainable_variables)
    finite = all_finite(grads)
    old = (trainable_variables, optimizer_variables)
    return tuple([ops.where(finite, n, o) for n, o in zip(*pair, strict=True)] for pair in zip(new, old, strict=True))


def all_finite(grads):
    """Return whether all numbers of a list of gradients are finite, a bool scalar."""
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
        self._epoch, self._bad, self._begun, self._next = epoch, None, None, 0.0
        self._start = self._sample = None  # the batch and the optimizer's counter, at first and at the last look
        self._good = 0  # batches that are known to have been finite

    def on_train_batch_begin(self, batch, logs=None):
        self._begun = batch
        if self._bad is not None or time.perf_counter() >= self._next:
            self.check(batch)

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss) and self._bad is None:
            self._bad = batch

    def on_test_begin(self, logs=None):
        self.check()

    def on_epoch_end(self, epoch, logs=None):
        self.check()

    def check(self, batch=None, exact=False):
        """Raise if a batch of this epoch was bad; those before `batch` are done, or all if it is `None`.

        Unless `exact`, those since the last look are judged at the next: to wait for them now would leave an accelerator
        without work. Looks take at most half a percent of the time.
        """
        if self._bad is not None:
            self._stop(range(self._bad, self._bad + 1))
        begin, count = time.perf_counter(), self._count()
        if count is None or self._begun is None:
            return
        if self._start is None:
            self._start, self._good = (self._begun, _number(count)), self._begun
        if batch is None:  # without a known length the last batch may have begun and not have been there
            steps = self.params.get("steps")
            batch, exact = min(self._begun + self._model.steps_per_execution, steps) if steps else self._begun, True
        if exact:
            self._judge(batch, count)
        else:
            if self._sample is not None:
                self._judge(*self._sample)
            self._sample = (batch, ops.copy(count))
        end = time.perf_counter()
        self._next = end + 200 * (end - begin)

    def _judge(self, done, count):
        if _number(count) < self._start[1] + done - self._start[0]:
            self._stop(range(self._good, done))
        self._good = max(self._good, done)

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

    def _stop(self, suspects):
        model = self.model
        batch, reason = find_reason(model, self.batches, self._epoch, suspects)
        place = f"batch {batch}" if batch is not None else f"one of the batches {suspects[0]} to {suspects[-1]}"
        rate = getattr(model.optimizer, "learning_rate", None)
        rate = "unknown" if rate is None else f"{_number(rate, float):.2g}"
        raise FloatingPointError(
            f"Training stopped at epoch {self._epoch + 1}, {place} (counted from 0): {reason}. If the data are right, build "
            f"the model with a smaller learning_rate (it is {rate} at this step) or with global_clipnorm=1.0, train with a "
            "longer warmup, or in float32."
        )


def find_reason(model, batches, epoch, suspects):
    """Return `(batch, reason)`: which of the batches `suspects` is bad, or `None`, and what of it is not finite.

    That is a number in the data, the output of a layer, or the gradient of a weight.
    """
    alone = suspects[0] if len(suspects) == 1 else None
    bad = [v.path for v in model.trainable_variables if not bool(all_finite([v]))]
    found = f"the weight {bad[0]} is not finite" if bad else "the loss or a gradient is not finite"
    if not hasattr(batches, "batch"):
        return alone, f"{found}, or the data of that batch are not"
    for batch in suspects:
        reason = _in_data(*batches.batch(epoch, batch))
        if reason:
            return batch, reason
    if bad:
        return alone, found
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    try:
        for batch in suspects:
            x, *rest = batches.batch(epoch, batch)
            reason = _in_layers(model, x) or _in_gradients(model, x, *rest)
            if reason:
                return batch, reason
    finally:  # the looking must not move statistics and seeds
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    return alone, found


def _in_data(x, y=None, sample_weight=None):
    """Name the first number that is not finite, or return `None`."""
    for name, part in (("x", x), ("y", y)):
        for leaf in [] if part is None else keras.tree.flatten(part):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                place = [int(i) for i in np.argwhere(~np.isfinite(leaf))[0]]
                return f"{name} holds {leaf[tuple(place)]} at {place} of the batch, as augmentation or mixing made it"
    return None


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
    bad = [name for name, g in zip(names, gradients, strict=True) if g is not None and not bool(all_finite([g]))]
    return f"the gradient of {bad[-1]} and of {len(bad) - 1} other weights is not finite" if bad else None


def _number(value, kind=int):
    return kind(ops.convert_to_numpy(value))
