"""An average of the weights over the steps of a fit, which is what validation measures and the model ends with."""

import numbers

import keras
import numpy as np
from keras import ops


class ExponentialMovingAverage(keras.callbacks.Callback):
    """Keeps a moving average of all weights, BatchNorm's statistics among them; the model ends with it.

    After step `t` (from 0) of the fit each float variable `w` has the average `a`, which began as `w` was:

    - `d = min(decay, (1 + t) / (10 + t))`, or `decay` without `ramp`;
    - `a = a + (1 - d) * (w - a)`.

    At the end of each epoch, before validation, the averages take the place of the weights, and stay there until the next
    step: what is validated is what a checkpoint or `EarlyStopping(restore_best_weights=True)` keeps. List this callback
    before those. At the end of `fit` the model keeps the averages; `restore` exchanges them for the weights of the last
    step, from which training could go on.

    With `steps_per_execution=n`, and with `every=n`, the average is moved once in `n` steps, by `d ** n`, so the time it
    looks back stays the same.

    Args:
        decay: Float in (0, 1): looks back about `1 / (1 - decay)` steps.
        ramp: Whether the first averages look back less: about a tenth of the steps so far.
        every: Number of steps from one average to the next, at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = recipes.mlp((4,), 3, adapt=np.random.normal(size=(64, 4)))
    >>> average = ExponentialMovingAverage(decay=0.99)
    >>> history = model.fit(np.ones((64, 4)), np.zeros(64), epochs=2, callbacks=[average], verbose=0)
    >>> average.steps
    4

    Reference:
        [Polyak & Juditsky, 1992](https://epubs.siam.org/doi/10.1137/0330046); the ramp is that of TensorFlow's
        `ExponentialMovingAverage(num_updates=)`, which EfficientNet was trained with.
    """

    def __init__(self, decay=0.9999, ramp=True, every=1):
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, numbers.Real) or not 0 < decay < 1:
            raise ValueError(f"decay must be a number in (0, 1). Received: decay={decay!r}")
        if isinstance(every, bool) or not isinstance(every, numbers.Integral) or every < 1:
            raise ValueError(f"every must be an integer >= 1. Received: every={every!r}")
        self.decay, self.ramp, self.every = float(decay), bool(ramp), int(every)
        self.steps = 0  # that the averages have seen
        self._variables = self._averages = None  # the averages; the weights while the model holds the averages
        self._swapped = False
        self._fitting = False
        self._first = self._last = True  # of several fits that are one; recipes.fit(sizes=...) makes them so

    # `_fetch` comes before every look at the weights: on JAX reading `self.model` fetches the state, and what is assigned
    # without it is lost. It costs about 17 us a variable of model and optimizer, and nothing where a schedule has read it.

    def restore(self):
        """Exchange the averages in the model for the weights of the last step; called again, the averages come back."""
        if self._averages is None:
            raise ValueError("restore needs a fit: there are no averages yet.")
        self._swap()

    def hold(self, model, values=None):
        """Keep `values`, one a float weight of `model`, or its weights as they are, for the averages of `model`."""
        self.set_model(model)
        self._variables = [v for v in self.model.weights if keras.backend.is_float_dtype(v.dtype)]
        values = self._variables if values is None else values
        self._averages, self._move = _holder([ops.convert_to_tensor(v) for v in values], self._variables)

    def get_state(self):
        """Return what the average has to remember in a checkpoint, as plain data."""
        averages = [np.array(ops.convert_to_numpy(a)) for a in self._averages]
        return {"steps": self.steps, "swapped": self._swapped, "pending": self._pending, "averages": averages}

    def set_state(self, state):
        """Go on, within a fit, from what `get_state` returned."""
        self.hold(self.model, state["averages"])
        self.steps, self._swapped, self._pending = state["steps"], state["swapped"], state["pending"]

    def on_train_begin(self, logs=None):
        self._fitting, self._begun, self._pending = True, None, 0
        if self._first:
            self._swapped, self.steps = False, 0
            self.hold(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        self._begun = batch
        if self._swapped:
            self._swap()

    def on_train_batch_end(self, batch, logs=None):
        end = min(batch + 1, self.params.get("steps") or batch + 1)  # Keras counts the last execution as a full one
        self._pending += end - self._begun
        if self._pending >= self.every:
            self._update()

    def on_test_begin(self, logs=None):  # validation comes before every callback's on_epoch_end
        if self._fitting and not self._swapped:
            self._swap()

    def on_epoch_end(self, epoch, logs=None):
        if not self._swapped:
            self._swap()

    def on_train_end(self, logs=None):
        self._fitting = False
        if self._swapped != self._last:  # a fit without epochs; or another fit goes on from the weights
            self._swap()

    def _fetch(self):
        return self.model

    def _update(self):
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.ramp else self.decay
        rate = ops.convert_to_tensor(1 - decay**self._pending, "float32")
        self._fetch()
        self._averages = self._move(self._averages, rate)
        self.steps, self._pending = self.steps + self._pending, 0

    def _swap(self):
        if self._pending:
            self._update()
        self._fetch()
        values = [ops.copy(v.value) for v in self._variables]  # a copy: JAX donates the buffers of the model
        for variable, average in zip(self._variables, self._averages, strict=True):
            variable.assign(average)
        if keras.backend.backend() == "tensorflow":
            for average, value in zip(self._averages, values, strict=True):
                average.assign(value)
        else:
            self._averages = values
        self._swapped = not self._swapped


def _holder(values, variables):
    """Return the averages, and the function `(averages, rate) -> averages` that moves them towards `variables`.

    It is one call of the backend: operation by operation it took ten times as long (107 variables, TensorFlow).
    """

    def moved(averages, values, rate):
        return [a + ops.cast(rate, a.dtype) * (v - a) for a, v in zip(averages, values, strict=True)]

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        held, values = [tf.Variable(value) for value in values], [v.value for v in variables]

        @tf.function(autograph=False)
        def step(rate):
            for average, value in zip(held, moved(held, values, rate), strict=True):
                average.assign(value)

        def move(averages, rate):
            step(rate)
            return averages

        return held, move
    if keras.backend.backend() == "jax":
        import jax

        moved = jax.jit(moved)
    held = [ops.copy(value) for value in values]
    return held, lambda averages, rate: moved(averages, [v.value for v in variables], rate)
