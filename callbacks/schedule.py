"""What every learning-rate schedule shares: counting the steps of a fit, turning the rate, putting it back."""

import weakref

import keras
import numpy as np

from recipes.callbacks.curve import ScheduledRate, check_amount, check_fraction, is_integer, steps_of

# Optimizer -> the dials that a fit has turned. Only a fit that raised leaves an entry; the next finds its peak here.
_turned = weakref.WeakKeyDictionary()


class Schedule(keras.callbacks.Callback):
    """Base of the schedules: before each batch, sets the learning rate to a fraction of the optimizer's own.

    During an epoch the optimizer holds the rate of the step, between epochs its peak. So a second `fit` starts over, a
    checkpoint written at the end of an epoch is continued by `fit(..., initial_epoch=n)` at the right rate, and what
    `ReduceLROnPlateau` sets is the peak of the rest of the curve. (List the schedule before callbacks that save: with
    validation in `fit` the order does not matter.) The rates that were used are in `History`; TensorBoard reads the
    optimizer between epochs, and shows the peak.

    A subclass sets `curve`, a pure function `(step, total, warmup, ..., xp)` where `xp` is numpy or `keras.ops`, and
    passes the curve's own arguments to `__init__`.

    Args:
        warmup: Length of the rise from zero: a float in `[0, 1)` is a fraction of the run, an int is steps (batches).
        total_steps: Length of the run in steps, for data without a length or a curve over several fits. `None`: the
            epochs of this fit times its steps per epoch. Afterwards the last value stays.
        **arguments: Further arguments of `curve`.
    """

    curve = None
    async_safe = True  # on_train_batch_end only counts: Keras need not wait for the device after every step

    def __init__(self, warmup, total_steps=None, **arguments):
        super().__init__()
        check_amount("warmup", warmup)
        if "floor" in arguments:
            check_fraction("floor", arguments["floor"])
        if total_steps is not None and (not is_integer(total_steps) or total_steps < 1):
            raise ValueError(f"total_steps must be an int >= 1, or None. Received: total_steps={total_steps!r}")
        self.warmup = warmup
        self.total_steps = total_steps
        self.arguments = arguments
        self._dials = []

    def fraction(self, step, total, xp=np):
        """Return the fraction of the peak at `step` (int or array, from 0) of a run of `total` steps."""
        return self.curve(step, total, **self.curve_arguments(total), xp=xp)

    def curve_arguments(self, total):
        """Return the arguments of `curve` for a run of `total` steps; raise `ValueError` where they don't fit in it."""
        return {"warmup": steps_of("warmup", self.warmup, total), **self.arguments}

    def as_schedule(self, peak, total_steps):
        """Return the same curve as a `keras.optimizers.schedules.LearningRateSchedule`, to compile an optimizer with.

        Unlike the callback it goes on counting in a second `fit`, because Keras passes it `optimizer.iterations`.

        >>> from recipes.callbacks import WarmupCosine
        >>> optimizer = keras.optimizers.Adam(WarmupCosine().as_schedule(peak=1e-3, total_steps=10_000))
        """
        return ScheduledRate(self, peak, total_steps)

    def get_config(self):
        return {"warmup": self.warmup, "total_steps": self.total_steps, **self.arguments}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    # The model is always reached through `self.model`: on JAX that read fetches the state, and what is assigned without it
    # is lost. It costs about 17 us a variable of model and optimizer, once an execution: see `steps_per_execution`.

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        if not find_optimizers(optimizer):  # a MultiOptimizer with a function makes its optimizers when built
            if not self.model.built:
                raise ValueError("model must be built before fit with a MultiOptimizer: call model.build(input_shape).")
            optimizer.build(self.model.trainable_variables)
        settle(optimizer)
        for inner in find_optimizers(optimizer):
            self.check_optimizer(inner)
        self._total = self.total_steps or self._length()
        self.curve_arguments(self._total)  # what doesn't fit raises here, before the first step
        self._epoch_start = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = self._first_step(epoch)
        self._iterations = _batches_seen(self.model.optimizer)
        self._begun, self._ended = [], []  # executions, of steps_per_execution batches each
        self._dials = []

    def on_train_batch_begin(self, batch, logs=None):
        inner_optimizers = find_optimizers(self.model.optimizer)
        if not self._begun:  # not in on_epoch_begin, so that whatever another callback sets there is the peak
            self._dials = [self.make_dials(inner) for inner in inner_optimizers]
        self._begun.append(batch)
        for inner, dials in zip(inner_optimizers, self._dials, strict=True):
            if _turned.setdefault(inner, dials) is not dials:
                raise ValueError("Two schedules set the rate of one optimizer: pass only one in fit(callbacks=...).")
            self.turn(dials, self._epoch_start + batch)

    def on_train_batch_end(self, batch, logs=None):
        self._ended.append(batch)

    def on_test_begin(self, logs=None):  # validation comes before every callback's on_epoch_end
        self.put_back()

    def on_epoch_end(self, epoch, logs=None):
        self.put_back()
        # Data without a known end is found empty only after the batch has begun: that rate was not used.
        last = 1 if len(self._begun) == len(self._ended) else 0
        for inner, dials in zip(find_optimizers(self.model.optimizer), self._dials, strict=True):
            used = dials[0].written[last]
            if logs is not None and used is not None:  # under the names that Keras gives them
                logs["learning_rate" if len(self._dials) == 1 else f"learning_rate_{inner.name}"] = used

    def on_train_end(self, logs=None):
        self.put_back()

    def put_back(self):
        """Return every optimizer to its peak."""
        for inner in find_optimizers(self.model.optimizer):
            for dial in _turned.pop(inner, ()):
                dial.put_back()

    def get_state(self):
        """Return what the schedule has to remember in a checkpoint, as plain data."""
        dials = [[[dial.rest, *dial.written] for dial in one] for one in self._dials]
        counts = {"begun": len(self._begun), "iterations": self._iterations} if self._epoch_start is not None else None
        turned = [inner in _turned for inner in find_optimizers(self.model.optimizer)]
        return {"epoch_start": self._epoch_start, "counts": counts, "dials": dials, "turned": turned}

    def set_state(self, state):
        """Go on, within a fit, from what `get_state` returned, with the optimizer as it was then; it is at its peak then."""
        self._epoch_start = state["epoch_start"]
        if state["counts"]:
            self._begun, self._ended = [None] * state["counts"]["begun"], [None] * state["counts"]["begun"]
            self._iterations = state["counts"]["iterations"]
        self._dials = []
        if not state["dials"]:
            return
        optimizers = find_optimizers(self.model.optimizer)
        for inner, saved, turned in zip(optimizers, state["dials"], state["turned"], strict=True):
            dials = self.make_dials(inner)
            for dial, (rest, *written) in zip(dials, saved, strict=True):
                dial.rest, dial.written = rest, tuple(written)
                if turned:
                    dial.put_back()
            self._dials.append(dials)

    # What a schedule that turns more than the rate overrides.

    def check_optimizer(self, optimizer):
        """Raise `ValueError` unless the schedule can turn `optimizer`."""
        if not isinstance(optimizer.learning_rate, keras.Variable):
            raise ValueError(
                f"{type(self).__name__} sets the learning rate, and the optimizer was compiled with a schedule of its "
                "own. Compile with a number, such as keras.optimizers.Adam(1e-3), or leave out the callback. "
                f"Received: learning_rate={optimizer._learning_rate!r}"
            )

    def make_dials(self, optimizer):
        """Return the dials of one optimizer, the learning rate first."""
        dial = Dial(optimizer.learning_rate)
        if not 0 <= dial.rest < float("inf"):
            raise ValueError(f"learning_rate must be finite and >= 0. Received: learning_rate={dial.rest}")
        return [dial]

    def turn(self, dials, step):
        """Turn the dials of one optimizer to their values at `step`."""
        dials[0].turn(dials[0].rest * float(self.fraction(step, self._total)))

    def _length(self):
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        if not steps:
            raise ValueError(
                f"{type(self).__name__} cannot know how long this fit is, because the data has no length. Pass "
                f"steps_per_epoch= to fit, or {type(self).__name__}(total_steps=...). Received: steps={steps}"
            )
        return epochs * steps

    def _first_step(self, epoch):
        steps = self.params.get("steps")
        if steps:
            return epoch * steps
        if self._epoch_start is None:
            if epoch > 0:
                raise ValueError(
                    "initial_epoch needs the number of steps in an epoch, and the data has no length: pass "
                    f"steps_per_epoch= to fit. Received: initial_epoch={epoch}"
                )
            return 0
        if self.model.steps_per_execution == 1:  # TensorFlow counts one iteration too many at the end of such data
            return self._epoch_start + len(self._ended)
        return self._epoch_start + _batches_seen(self.model.optimizer) - self._iterations


class Dial:
    """A variable of an optimizer that a schedule turns, the value it rests at, and what was last written to it."""

    def __init__(self, variable):
        self.variable = variable
        self.rest = read(variable)
        self.written = (None, None)  # two: on JAX a batch that raises takes the variables back to the one before

    def turn(self, value):
        self.variable.assign(value)
        self.written = (self.written[1], value)

    def put_back(self):
        self.variable.assign(self.rest)

    def put_back_if_ours(self):
        """Put back what a fit that raised has left, unless the user has set another value since."""
        stored = [float(keras.ops.cast(value, self.variable.dtype)) for value in self.written if value is not None]
        if read(self.variable) in stored:
            self.put_back()


def read(variable):
    """Return the value of a scalar variable as a float."""
    return float(keras.ops.convert_to_numpy(variable))


def settle(optimizer):
    """Return an optimizer to its peak that a fit which raised has left elsewhere."""
    for inner in find_optimizers(optimizer):
        for dial in _turned.pop(inner, ()):
            dial.put_back_if_ours()


def find_optimizers(optimizer):
    """Return the optimizers that hold a learning rate: those within a LossScaleOptimizer and a MultiOptimizer."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _batches_seen(optimizer):
    """Return the batches an optimizer has seen; its public `iterations` counts updates when gradients accumulate."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return int(keras.ops.convert_to_numpy(optimizer._iterations))
