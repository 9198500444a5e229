"""An average of the weights beside the model, which goes on with its own."""

import contextlib

from keras import ops

from recipes.callbacks.ema import ExponentialMovingAverage


class EMAWeights(ExponentialMovingAverage):
    """Keeps a moving average of all weights as a second copy; training, validation and the end of `fit` do not see it.

    The average is that of `ExponentialMovingAverage`, ramp included. It is for models that have none of their own and
    must keep the weights they train with, such as those that are fitted again and again: another `fit` of the same model
    goes on with the average. `recipes.diffusion` needs no callback: it has an average inside.

    Args:
        decay: Float in (0, 1): looks back about `1 / (1 - decay)` steps.
        ramp: Whether the first averages look back less: about a tenth of the steps so far.
        every: Number of steps from one average to the next, at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = recipes.mlp((4,), 3, adapt=np.random.normal(size=(64, 4)))
    >>> average = EMAWeights(decay=0.99)
    >>> history = model.fit(np.ones((64, 4)), np.zeros(64), epochs=2, callbacks=[average], verbose=0)
    >>> with average.applied():
    ...     logits = model.predict(np.ones((2, 4)), verbose=0)
    >>> copy = keras.models.clone_model(model)
    >>> copy.set_weights(average.get_weights())
    >>> bool(np.allclose(copy.predict(np.ones((2, 4)), verbose=0), logits, atol=1e-6))
    True

    Reference:
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B, sample with such a copy.
    """

    def __init__(self, decay=0.9999, ramp=True, every=1):
        super().__init__(decay, ramp, every)
        self._held = None

    @contextlib.contextmanager
    def applied(self):
        """Return a context in which the model has the averages; after it, its own weights again."""
        self._check()
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def get_weights(self):
        """Return the averages as arrays in the order of `model.get_weights()`; what is no float is the model's own."""
        self._check()
        averages = iter(self._averages)
        floats = {id(v) for v in self._variables}
        return [ops.convert_to_numpy(next(averages) if id(v) in floats else v) for v in self._fetch().weights]

    def on_train_begin(self, logs=None):
        self._first = self._held is not self.model
        self._held = self.model
        super().on_train_begin(logs)

    def on_test_begin(self, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        pass

    def on_train_end(self, logs=None):
        self._fitting = False
        if self._pending:
            self._update()

    def _check(self):
        if self._averages is None:
            raise ValueError("EMAWeights needs a fit with callbacks=[average]: there are no averages yet.")
