"""Stop an adversarial training that has gone wrong, and say how."""

import warnings

import keras
import numpy as np


class CollapseMonitor(keras.callbacks.Callback):
    """Stops training when the discriminator has won or the samples have lost their variety, and says so in a warning.

    At the end of each epoch, from epoch `start` on, it looks at

    - `d_accuracy` of the logs, the share of pairs of a real and a fake example that the discriminator puts in the right
      order: from `accuracy` on, the generator learns nothing from it. Set `accuracy=None` for a Wasserstein GAN, whose
      critic may be as good as it likes.
    - the variety of samples, all from the same noise, compared with as many examples of the data: the mean distance of
      two of them and the median distance to the nearest other one, each as a fraction of the data's, the smaller of both.
      It is 1 for samples like the data, and 0 if they are all alike, or if a few pictures come again and again. It is put
      into the logs as `variety`.

    Args:
        data: The training data, `x` or `(x, labels)`: an array `(examples, ...)`.
        samples: Number of samples and of examples that are compared, at least 8.
        variety: Fraction in [0, 1): samples that vary less are taken for collapsed.
        accuracy: Share in (0.5, 1]; `None` not to look at the discriminator.
        patience: Number of epochs in a row that must look wrong.
        start: First epoch, from 0, that is looked at: what an untrained generator makes is all alike.
        seed: Integer that fixes the noise and the examples.

    Attributes:
        reason: Why training was stopped, or `None`.

    Raises:
        ValueError: If an argument is out of its range, or the model has no `sample`.

    Example:

    >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1))
    >>> model = recipes.gan((8, 8, 1), width=4, latent=4)
    >>> monitor = CollapseMonitor(images, samples=8, patience=1, start=0)
    >>> history = model.fit(images, epochs=1, callbacks=[monitor], verbose=0)
    >>> 0 <= history.history["variety"][0] < 1
    True
    """

    def __init__(self, data, *, samples=64, variety=0.1, accuracy=0.99, patience=3, start=5, seed=0):
        super().__init__()
        x = np.asarray(data[0] if isinstance(data, tuple) else data)
        for name, value, least in (("samples", samples, 8), ("patience", patience, 1), ("start", start, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}. Received: {name}={value!r}")
        if not 0 <= variety < 1:
            raise ValueError(f"variety must be in [0, 1). Received: variety={variety!r}")
        if accuracy is not None and not 0.5 < accuracy <= 1:
            raise ValueError(f"accuracy must be in (0.5, 1], or None. Received: accuracy={accuracy!r}")
        if len(x) < 8:
            raise ValueError(f"data must hold at least 8 examples. Received: {len(x)}")
        chosen = np.random.default_rng(seed).permutation(len(x))[:samples]
        self.samples = len(chosen)
        self.variety, self.accuracy, self.patience, self.start, self.seed = variety, accuracy, patience, start, seed
        self.spread = spread(x[chosen])
        self.reason = None

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "sample"):
            raise ValueError(f"CollapseMonitor needs a model with a method sample. Received: {self.model.name!r}")
        self.reason, self._won, self._alike = None, 0, 0

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        found = spread(self.model.sample(self.samples, seed=self.seed))
        variety = min(float(now / real) for now, real in zip(found, self.spread, strict=True))
        logs["variety"] = variety
        if epoch < self.start:
            return
        accuracy = logs.get("d_accuracy", 0.0)
        self._won = self._won + 1 if self.accuracy is not None and accuracy >= self.accuracy else 0
        self._alike = self._alike + 1 if variety < self.variety else 0
        if self._won >= self.patience:
            self._stop(
                f"the discriminator has won: for {self._won} epochs it put {accuracy:.1%} of the pairs in the right order, "
                "so the generator learns nothing. Lower learning_rate, raise penalty, or pass augment= if there is little "
                "data"
            )
        elif self._alike >= self.patience:
            self._stop(
                f"the samples have collapsed: for {self._alike} epochs they varied {variety:.2f} times as much as the data. "
                'Raise penalty, lower learning_rate, or take variant="r3gan"'
            )

    def _stop(self, reason):
        self.reason = reason
        self.model.stop_training = True
        warnings.warn(f"CollapseMonitor stopped the training: {reason}.")


def spread(x):
    """Return the mean distance of two examples and the median distance to the nearest other one."""
    x = np.asarray(x, "float64").reshape(len(x), -1)
    squares = np.square(x).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0.0))
    others = ~np.eye(len(x), dtype=bool)
    nearest = np.where(others, distances, np.inf).min(axis=1)
    return np.maximum([distances[others].mean(), np.median(nearest)], 1e-12)
