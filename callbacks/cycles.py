"""Schedules that go up and down: one cycle (Smith), and cosine cycles with restarts (SGDR)."""

import math
import numbers

import keras
import numpy as np

from recipes.callbacks.curve import after_warmup, check_fraction, progress
from recipes.callbacks.schedule import Dial, Schedule, read


def one_cycle(step, total, warmup, start, floor, peak=1.0, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `start + (peak - start) * (1 - cos(pi * step / warmup)) / 2` while `step < warmup`;
    - `peak + (floor - peak) * (1 - cos(pi * p)) / 2` after it, with `p = (step - warmup) / (total - warmup)`.

    With three momenta for `start`, `floor` and `peak`, the momentum.
    """
    rising = start + (peak - start) * (1 - xp.cos(math.pi * progress(step, 0, warmup, xp))) / 2
    falling = peak + (floor - peak) * (1 - xp.cos(math.pi * progress(step, warmup, total, xp))) / 2
    return xp.where(step < warmup, rising, falling)


def cosine_restarts(step, total, warmup, cycles, multiplier, floor=0.0, xp=np):
    """Return the fraction of the peak at `step` of `total`, all in steps:

    - `(step + 1) / warmup` while `step < warmup`;
    - `floor + (1 - floor) * (1 + cos(pi * p)) / 2` after it, with `p` the progress within the cycle, from 0 to 1.

    Cycle `i` (from 0) begins at `warmup + (total - warmup) * (m**i - 1) / (m**cycles - 1)`, rounded; m is `multiplier`.
    """
    starts = cycle_starts(total, warmup, cycles, multiplier)
    value = 1.0
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        falling = (1 + xp.cos(math.pi * progress(step, begin, end, xp))) / 2
        value = xp.where(step >= begin, floor + (1 - floor) * falling, value)
    return after_warmup(step, warmup, value, xp)


def cycle_starts(total, warmup, cycles, multiplier):
    """Return the first step of every cycle, and `total`."""
    lengths = [multiplier**i for i in range(cycles)]
    return [warmup + round((total - warmup) * sum(lengths[:i]) / sum(lengths)) for i in range(cycles + 1)]


@keras.saving.register_keras_serializable("recipes")
class OneCycle(Schedule):
    """Raises the learning rate to the compiled one and lowers it to almost nothing; the momentum does the opposite.

    The momentum moves in optimizers that keep it in a variable, `recipes.AdamW` (`beta_1`) and `recipes.SGD`. In Keras'
    own it is a constant of the compiled step, which nothing can change during `fit`.

    Args:
        warmup: Length of the rise: a float in `[0, 1)` is a fraction of the run, an int is steps (batches).
        start: Float in `[0, 1]`, the fraction of the peak in the first step; fastai's `1 / div`.
        floor: Float in `[0, 1]`, the fraction of the peak that the curve ends at; fastai's `1 / div_final`.
        momentum: `(first, at the peak, last)`, each in `[0, 1)`. `"auto"`: `(0.95, 0.85, 0.95)` where the optimizer has
            a momentum that can move and isn't 0. `None`: left alone.
        total_steps: Length of the run in steps. `None`: the epochs of this fit times its steps per epoch.

    Raises:
        ValueError: When `fit` begins, as in `WarmupCosine`, or if the optimizer can't move the `momentum` asked for.

    Example:

    >>> schedule = OneCycle(warmup=25)
    >>> [round(float(schedule.fraction(step, total=100)), 4) for step in (0, 25, 99)]
    [0.04, 1.0, 0.0004]

    Reference:
        [Smith & Topin, 2018](https://arxiv.org/abs/1708.07120); cosine instead of lines, and the defaults, from
        `fit_one_cycle` of fastai.
    """

    curve = staticmethod(one_cycle)

    def __init__(self, warmup=0.25, start=1 / 25, floor=1e-5, momentum="auto", total_steps=None):
        super().__init__(warmup, total_steps, start=start, floor=floor)
        check_fraction("start", start)
        if momentum is not None and momentum != "auto":
            if not isinstance(momentum, (tuple, list)) or len(momentum) != 3 or not all(0 <= m < 1 for m in momentum):
                raise ValueError(
                    f'momentum must be three numbers in [0, 1), "auto" or None. Received: momentum={momentum!r}'
                )
        self.momentum = momentum

    def check_optimizer(self, optimizer):
        super().check_optimizer(optimizer)
        if self.momentum not in (None, "auto") and not _has_momentum(optimizer):
            raise ValueError(
                "momentum can move only in recipes.AdamW and recipes.SGD, compiled with one > 0: they keep it in a "
                "variable. Compile with one of them, or pass momentum=None. "
                f"Received: momentum={self.momentum}, optimizer={type(optimizer).__name__}"
            )

    def make_dials(self, optimizer):
        dials = super().make_dials(optimizer)
        if self.momentum is not None and _has_momentum(optimizer):
            dials.append(Dial(optimizer.momentum_variable))
        return dials

    def turn(self, dials, step):
        super().turn(dials, step)
        for dial in dials[1:]:
            first, peak, last = (0.95, 0.85, 0.95) if self.momentum == "auto" else self.momentum
            warmup = self.curve_arguments(self._total)["warmup"]
            dial.turn(float(one_cycle(step, self._total, warmup, first, last, peak)))

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable("recipes")
class CosineRestarts(Schedule):
    """Lowers the learning rate along half a cosine, several times over, each longer than the one before.

    The weights at the end of each cycle are a good model; the last one ends with the run.

    Args:
        cycles: Int >= 1, how many.
        multiplier: Float >= 1, the length of a cycle over that of the one before it: T_mult of the paper.
        warmup: Length of a linear rise before the first cycle: a float in `[0, 1)` is a fraction of the run, an int is
            steps (batches). The paper has none.
        floor: Float in `[0, 1]`, the fraction of the peak that every cycle ends at.
        total_steps: Length of the run in steps. `None`: the epochs of this fit times its steps per epoch.

    Raises:
        ValueError: When `fit` begins, as in `WarmupCosine`, or if the run is too short for the cycles.

    Example:

    >>> schedule = CosineRestarts()  # of 70 steps: 10, 20 and 40
    >>> [float(schedule.fraction(step, total=70)) for step in (0, 10, 20, 30)]
    [1.0, 1.0, 0.5, 1.0]

    Reference:
        [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1608.03983), equation 5.
    """

    curve = staticmethod(cosine_restarts)

    def __init__(self, cycles=3, multiplier=2.0, warmup=0, floor=0.0, total_steps=None):
        super().__init__(warmup, total_steps, cycles=cycles, multiplier=multiplier, floor=floor)
        if isinstance(cycles, bool) or not isinstance(cycles, int) or cycles < 1:
            raise ValueError(f"cycles must be an int >= 1. Received: cycles={cycles!r}")
        if not isinstance(multiplier, numbers.Real) or not 1 <= multiplier < float("inf"):
            raise ValueError(f"multiplier must be a number >= 1. Received: multiplier={multiplier!r}")

    def curve_arguments(self, total):
        arguments = super().curve_arguments(total)
        starts = cycle_starts(total, **{key: arguments[key] for key in ("warmup", "cycles", "multiplier")})
        if len(set(starts)) < len(starts):
            raise ValueError(
                f"cycles do not fit in the run of {total} steps: pass fewer, or a smaller multiplier. "
                f"Received: cycles={arguments['cycles']}, multiplier={arguments['multiplier']}"
            )
        return arguments


def _has_momentum(optimizer):
    """Return whether the optimizer keeps its momentum in a variable, and uses one: compiled with 0, ours have none."""
    return hasattr(optimizer, "momentum_variable") and read(optimizer.momentum_variable) > 0
