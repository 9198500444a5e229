"""The weight of the divergence in a variational autoencoder, over the steps of a fit."""

import keras
import numpy as np

from recipes.callbacks.curve import check_amount, is_integer, steps_of


class KLAnnealing(keras.callbacks.Callback):
    """Raises the weight of the divergence from 0 to 1 over the first steps of a fit, once or in cycles.

    Before each batch it sets `model.kl_weight`, which multiplies `beta` in the loss. Without it a decoder that is good
    enough by itself may learn to ignore the code before the encoder says anything. Validation measures the whole bound, with
    the weight 1, and the model ends with it.

    Args:
        warmup: Length of a rise: a float in `[0, 1)` is a fraction of a cycle, an int is steps (batches).
        cycles: Number of equal cycles of the run, each of which begins at 0 again.

    Raises:
        ValueError: If an argument is out of its range; before the first step, if the model has no `kl_weight`.

    Example:

    >>> KLAnnealing(warmup=0.5, cycles=2).weight(np.arange(8), total=8).tolist()
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0]

    Reference:
        [Bowman et al., 2016](https://arxiv.org/abs/1511.06349), section 3.1; cycles as
        [Fu et al., 2019](https://arxiv.org/abs/1903.10145), equation 6.
    """

    def __init__(self, warmup=0.2, cycles=1):
        super().__init__()
        check_amount("warmup", warmup)
        if not is_integer(cycles) or cycles < 1:
            raise ValueError(f"cycles must be an int >= 1. Received: cycles={cycles!r}")
        self.warmup = warmup
        self.cycles = cycles

    def weight(self, step, total):
        """Return the weight at `step` (int or array, from 0) of a run of `total` steps."""
        cycle = total / self.cycles
        rise = max(1, steps_of("warmup", self.warmup, int(cycle)))
        return np.minimum(step % cycle / rise, 1.0) if self.warmup else np.ones_like(step, "float64")

    # `self.model` is read before each assignment: on JAX that read fetches the state

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "kl_weight"):
            raise ValueError(f"KLAnnealing needs a model with a kl_weight, such as recipes.vae. Received: {self.model.name}")
        self._steps = self.params.get("steps")
        if not self._steps:
            raise ValueError("KLAnnealing needs data of a known length: pass steps_per_epoch= to fit.")
        self._total = self.params["epochs"] * self._steps
        self.weight(0, self._total)  # what doesn't fit raises here

    def on_epoch_begin(self, epoch, logs=None):
        self._first = epoch * self._steps

    def on_train_batch_begin(self, batch, logs=None):
        self.model.kl_weight.assign(float(self.weight(self._first + batch, self._total)))

    def on_test_begin(self, logs=None):
        self.model.kl_weight.assign(1.0)

    def on_train_end(self, logs=None):
        self.model.kl_weight.assign(1.0)
