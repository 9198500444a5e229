"""The learning-rate range test: raise the rate until the loss diverges, and see where it fell fastest."""

import dataclasses
import math

import keras
import numpy as np


class LRFinder:
    """Trains for a few batches at ever higher learning rates, records the loss, and leaves the model as it found it.

    Weights, BatchNorm statistics, dropout seeds, all optimizer variables and the learning rate are put back bit for
    bit, also when the test raises.

    Args:
        minimum: Float > 0, the learning rate of the first batch.
        maximum: Float > `minimum`, that of the last one. The rates between are equally spaced on a logarithmic scale.
        steps: Int >= 10, the number of batches; data with fewer is passed over again.
        divergence: Float > 1. The test stops once the smoothed loss is this many times its lowest value (4 as in
            fastai), or a loss isn't finite.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.01), "mse")
    >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    >>> found = LRFinder().run(model, x, x.sum(axis=1))
    >>> 1e-3 < found.suggestion < 1.0
    True

    Reference:
        [Smith, 2017](https://arxiv.org/abs/1506.01186), section 3.3.
    """

    def __init__(self, minimum=1e-7, maximum=10.0, steps=100, divergence=4.0):
        if not 0 < minimum < maximum < math.inf:
            raise ValueError(
                f"minimum and maximum must be learning rates, 0 < minimum < maximum. Received: {minimum=}, {maximum=}"
            )
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
            raise ValueError(f"steps must be an int >= 10: a slope needs points. Received: {steps=}")
        if not divergence > 1:
            raise ValueError(f"divergence must be a number > 1. Received: {divergence=}")
        self.minimum = minimum
        self.maximum = maximum
        self.steps = steps
        self.divergence = divergence

    def run(self, model, x, y=None, *, batch_size=32, seed=0):
        """Run the test.

        Args:
            model: Compiled `keras.Model`; model and optimizer may be un-built.
            x: Array or structure of arrays, taken in random order; or a `tf.data.Dataset`, `keras.utils.PyDataset` or
                other iterable of `(x, y)` or `(x, y, sample_weight)` batches.
            y: Targets, only with arrays.
            batch_size: Int >= 1, only with arrays.
            seed: Int, the order of arrays.

        Returns:
            A `RangeTest`.
        """
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ValueError("model must be compiled: call model.compile(...) first.")
        if getattr(getattr(optimizer, "inner_optimizer", optimizer), "optimizers", None) is not None:
            raise ValueError("optimizer must have one learning rate to search for. Received: a MultiOptimizer")
        if not isinstance(optimizer.learning_rate, keras.Variable):
            raise ValueError(
                "optimizer must be compiled with a number as learning_rate, not with a schedule. "
                f"Received: learning_rate={optimizer._learning_rate!r}"
            )

        batches = _batches(x, y, batch_size, seed)
        first = next(batches)
        if not model.built:
            model(keras.tree.map_structure(keras.ops.convert_to_tensor, first[0]))
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.metrics_variables, *optimizer.variables]
        before = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]  # copies: torch gives views
        rates, losses = [], []
        smooth, lowest = 0.0, math.inf
        try:
            for step in range(self.steps):
                rate = self.minimum * (self.maximum / self.minimum) ** (step / (self.steps - 1))
                optimizer.learning_rate = rate
                batch = first if step == 0 else next(batches)
                loss = model.train_on_batch(*batch, return_dict=True)["loss"]
                if not math.isfinite(loss):
                    break
                rates.append(rate)
                losses.append(float(loss))
                smooth = 0.9 * smooth + 0.1 * loss
                corrected = smooth / (1 - 0.9 ** (step + 1))  # as Adam corrects its moments
                lowest = min(lowest, corrected)
                if corrected - lowest > (self.divergence - 1) * abs(lowest):
                    break
        finally:
            if hasattr(model, "jax_state_sync"):
                model.jax_state_sync()  # a state left pending by an error would be written over what follows
            model.reset_metrics()  # those that the first batch has built
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
        return RangeTest(np.array(rates), np.array(losses))


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What the range test measured: `rates` and the `losses` of one batch at each, both of shape `(steps,)`."""

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self):
        """The mean of each loss and its neighbours, a tenth of the test in all: an average that doesn't lag behind."""
        reach = max(1, len(self.losses) // 20)
        return np.array([self.losses[max(0, i - reach) : i + reach + 1].mean() for i in range(len(self.losses))])

    @property
    def suggestion(self):
        """The rate where the smoothed loss falls fastest: the `r` that minimizes `d smoothed(r) / d log(r)`.

        Rates beyond the lowest smoothed loss are left out. It is a rate to start from, or the peak of a schedule.
        """
        smoothed = self.smoothed
        until = int(smoothed.argmin()) + 1 if len(smoothed) else 0
        if until < 3:
            raise ValueError(
                "The loss fell at no rate, so there is nothing to suggest: lower `minimum`, and look at `losses`. "
                f"Received: {len(self.losses)} losses before it diverged"
            )
        slope = np.gradient(smoothed[:until], np.log(self.rates[:until]))
        return float(self.rates[slope.argmin()])

    def plot(self, axes=None):
        """Draw the losses over the rates and mark the suggestion; needs matplotlib. Returns the axes."""
        if axes is None:
            import matplotlib.pyplot

            axes = matplotlib.pyplot.figure().add_subplot()
        axes.plot(self.rates, self.losses, alpha=0.3, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        axes.axvline(self.suggestion, color="black", linestyle="--", label=f"suggestion: {self.suggestion:.1e}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        return axes


def _batches(x, y, batch_size, seed):
    """Yield `(x, y, sample_weight)` without end."""
    if y is None and not hasattr(x, "shape") and not isinstance(x, dict):
        yield from _repeat(x)
    if batch_size < 1:
        raise ValueError(f"batch_size must be an int >= 1. Received: {batch_size=}")
    arrays = keras.tree.map_structure(_as_array, (x, y))
    length = len(keras.tree.flatten(arrays)[0])
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(length)
        for start in range(0, max(1, length - batch_size + 1), batch_size):  # whole batches: their losses compare
            chosen = order[start : start + batch_size]
            yield (*keras.tree.map_structure(lambda array: array[chosen], arrays), None)  # noqa: B023


def _repeat(data):
    """Yield the batches of a dataset, again and again."""
    while True:
        count = 0
        batches = (data[i] for i in range(data.num_batches)) if isinstance(data, keras.utils.PyDataset) else data
        for batch in batches:
            count += 1
            batch = keras.tree.map_structure(_as_array, batch)
            yield keras.utils.unpack_x_y_sample_weight(batch)
        if not count:
            raise ValueError("x ran out of batches: pass a dataset that can be read again, or more batches than steps.")


def _as_array(value):
    """Return a numpy array, floats in Keras' own precision, as `fit` makes them."""
    if value is None:
        return None
    array = np.asarray(value)
    return array.astype(keras.config.floatx()) if array.dtype == "float64" else array
