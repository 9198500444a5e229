"""Schedules that warm up and then decay, hold, or hold and decay: `WarmupCosine` is the one to begin with."""

import math

import keras
import numpy as np

from recipes.callbacks.curve import after_warmup, check_amount, progress, steps_of
from recipes.callbacks.schedule import Schedule


def warmup_cosine(step, total, warmup, floor=0.0, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - `floor + (1 - floor) * (1 + cos(pi * p)) / 2` after it, with `p = (step - warmup) / (total - warmup)`.
    """
    falling = (1 + xp.cos(math.pi * progress(step, warmup, total, xp))) / 2
    return after_warmup(step, warmup, floor + (1 - floor) * falling, xp)


def warmup_linear(step, total, warmup, floor=0.0, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - `floor + (1 - floor) * (1 - p)` after it, with `p = (step - warmup) / (total - warmup)`.
    """
    return after_warmup(step, warmup, floor + (1 - floor) * (1 - progress(step, warmup, total, xp)), xp)


def warmup_constant(step, total, warmup, xp=np):
    """Return the fraction of the peak at `step`: `(step + 1) / warmup` while `step < warmup`, then 1."""
    return after_warmup(step, warmup, 1.0, xp)


def warmup_exponential(step, total, warmup, floor, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - `floor ** p` after it, with `p = (step - warmup) / (total - warmup)`.
    """
    return after_warmup(step, warmup, floor ** progress(step, warmup, total, xp), xp)


def warmup_inverse_sqrt(step, total, warmup, xp=np):
    """Return the fraction of the peak at `step`, in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - `sqrt(warmup / (step + 1))` after it.
    """
    return after_warmup(step, warmup, xp.sqrt(max(1, warmup) / (step + 1)), xp)


def warmup_stable_decay(step, total, warmup, decay, shape="sqrt", floor=0.0, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - 1 until the last `decay` steps;
    - `floor + (1 - floor) * (1 - sqrt(p))` in them, or `(1 - p)`, with `p = (step - total + decay) / decay`.
    """
    p = progress(step, total - decay, total, xp)
    return after_warmup(step, warmup, floor + (1 - floor) * (1 - (xp.sqrt(p) if shape == "sqrt" else p)), xp)


@keras.saving.register_keras_serializable("recipes")
class WarmupCosine(Schedule):
    """Raises the learning rate linearly from zero to the compiled one, then lowers it along half a cosine.

    Args:
        warmup: Length of the rise: a float in `[0, 1)` is a fraction of the run, an int is steps (batches).
        floor: Float in `[0, 1]`, the fraction of the peak that the curve ends at.
        total_steps: Length of the run in steps. `None`: the epochs of this fit times its steps per epoch.

    Raises:
        ValueError: When `fit` begins, if the data has no length, the warm-up is longer than the run, or the optimizer
            was compiled with a `LearningRateSchedule`.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.Adam(1e-3), "mse")
    >>> history = model.fit(np.ones((64, 4)), np.ones(64), epochs=3, callbacks=[WarmupCosine()], verbose=0)
    >>> len(history.history["learning_rate"])
    3

    Reference:
        [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1608.03983), equation 5 without restarts;
        [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 2.2, for the warm-up.
    """

    curve = staticmethod(warmup_cosine)

    def __init__(self, warmup=0.05, floor=0.0, total_steps=None):
        super().__init__(warmup, total_steps, floor=floor)


@keras.saving.register_keras_serializable("recipes")
class WarmupLinear(Schedule):
    """Raises the learning rate linearly from zero to the compiled one, then lowers it linearly: BERT's fine-tuning.

    Args:
        warmup: As in `WarmupCosine`. 10 % of the run, as BERT's fine-tuning script has it.
        floor: As in `WarmupCosine`.
        total_steps: As in `WarmupCosine`.

    Example:

    >>> schedule = WarmupLinear(warmup=10)
    >>> [float(schedule.fraction(step, total=110)) for step in (0, 9, 10, 60)]
    [0.1, 1.0, 1.0, 0.5]

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), appendix A.2 and `run_classifier.py` of its code.
    """

    curve = staticmethod(warmup_linear)

    def __init__(self, warmup=0.1, floor=0.0, total_steps=None):
        super().__init__(warmup, total_steps, floor=floor)


@keras.saving.register_keras_serializable("recipes")
class WarmupConstant(Schedule):
    """Raises the learning rate linearly from zero to the compiled one, and keeps it there.

    Args:
        warmup: As in `WarmupCosine`.
        total_steps: As in `WarmupCosine`.

    Example:

    >>> schedule = WarmupConstant(warmup=4)
    >>> [float(schedule.fraction(step, total=100)) for step in (0, 3, 99)]
    [0.25, 1.0, 1.0]

    Reference:
        [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 2.2, gradual warm-up.
    """

    curve = staticmethod(warmup_constant)

    def __init__(self, warmup=0.05, total_steps=None):
        super().__init__(warmup, total_steps)


@keras.saving.register_keras_serializable("recipes")
class WarmupExponential(Schedule):
    """Raises the learning rate linearly from zero to the compiled one, then lowers it by the same share every step.

    Args:
        warmup: As in `WarmupCosine`.
        floor: Float in `(0, 1]`, the fraction of the peak that the curve ends at. EfficientNet's, .97 every 2.4 of 350
            epochs, is .0118; there the rate falls in stairs.
        total_steps: As in `WarmupCosine`.

    Example:

    >>> schedule = WarmupExponential(warmup=0, floor=0.01)
    >>> [round(float(schedule.fraction(step, total=100)), 3) for step in (0, 50, 99)]
    [1.0, 0.1, 0.01]

    Reference:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), section 5.2.
    """

    curve = staticmethod(warmup_exponential)

    def __init__(self, warmup=0.05, floor=0.01, total_steps=None):
        super().__init__(warmup, total_steps, floor=floor)
        if floor == 0:
            raise ValueError("floor must be > 0: an exponential never comes to 0. Received: floor=0")


@keras.saving.register_keras_serializable("recipes")
class WarmupInverseSqrt(Schedule):
    """Raises the learning rate linearly from zero to the compiled one, then lowers it by the square root of the step.

    The transformer's first schedule: its rate, `width ** -0.5 * min(step ** -0.5, step * warmup ** -1.5)`, is this one
    with the peak `(width * warmup) ** -0.5`.

    Args:
        warmup: As in `WarmupCosine`. The paper has 4,000 steps of 100,000.
        total_steps: As in `WarmupCosine`.

    Example:

    >>> schedule = WarmupInverseSqrt(warmup=4)
    >>> [float(schedule.fraction(step, total=100)) for step in (0, 3, 15, 63)]
    [0.25, 1.0, 0.5, 0.25]

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 3.
    """

    curve = staticmethod(warmup_inverse_sqrt)

    def __init__(self, warmup=0.05, total_steps=None):
        super().__init__(warmup, total_steps)


@keras.saving.register_keras_serializable("recipes")
class WarmupStableDecay(Schedule):
    """Warms up, holds the compiled learning rate, and lowers it only in the last part of the run.

    A run can be prolonged from any point of the plateau, without having chosen its length beforehand.

    Args:
        warmup: As in `WarmupCosine`.
        decay: Length of the last part: a float in `[0, 1)` is a fraction of the run, an int is steps (batches). Hägele
            et al. match a cosine with 20 %, MiniCPM uses 10 %.
        shape: `"sqrt"`, one minus a square root, the better one in Hägele et al., or `"linear"`.
        floor: As in `WarmupCosine`.
        total_steps: As in `WarmupCosine`.

    Example:

    >>> schedule = WarmupStableDecay(warmup=10, decay=20, shape="linear")
    >>> [float(schedule.fraction(step, total=100)) for step in (0, 10, 80, 90)]
    [0.1, 1.0, 1.0, 0.5]

    Reference:
        [Hu et al., 2024](https://arxiv.org/abs/2404.06395) (MiniCPM), section 4;
        [Hägele et al., 2024](https://arxiv.org/abs/2405.18392), section 3.
    """

    curve = staticmethod(warmup_stable_decay)

    def __init__(self, warmup=0.05, decay=0.2, shape="sqrt", floor=0.0, total_steps=None):
        super().__init__(warmup, total_steps, decay=decay, shape=shape, floor=floor)
        check_amount("decay", decay)
        if shape not in ("sqrt", "linear"):
            raise ValueError(f'shape must be "sqrt" or "linear". Received: shape={shape!r}')

    def curve_arguments(self, total):
        arguments = super().curve_arguments(total)
        decay = steps_of("decay", self.arguments["decay"], total)
        if arguments["warmup"] + decay > total:
            raise ValueError(
                f"warmup and decay together are longer than the run of {total} steps: shorten one. "
                f"Received: warmup={self.warmup}, decay={self.arguments['decay']}"
            )
        return {**arguments, "decay": decay}
