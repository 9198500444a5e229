"""What the curves of the schedules are made of, and a curve as a function of the optimizer's iterations."""

import numbers

import keras


@keras.saving.register_keras_serializable("recipes")
class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule's curve as a function of the optimizer's iterations; `Schedule.as_schedule` makes it.

    Args:
        schedule: One of the schedule callbacks; only its curve is used.
        peak: Float > 0, the learning rate where the curve is 1.
        total_steps: Int >= 1, the steps of the run; the curve stays at its last value afterwards.

    Call arguments:
        step: Integer scalar tensor.

    Returns:
        Float32 scalar tensor.
    """

    def __init__(self, schedule, peak, total_steps):
        if not isinstance(peak, numbers.Real) or not 0 < peak < float("inf"):
            raise ValueError(f"peak must be a finite number > 0. Received: peak={peak!r}")
        if not is_integer(total_steps) or total_steps < 1:
            raise ValueError(f"total_steps must be an int >= 1. Received: total_steps={total_steps!r}")
        schedule.curve_arguments(total_steps)
        self.schedule = schedule
        self.peak = peak
        self.total_steps = total_steps

    def __call__(self, step):
        return self.peak * self.schedule.fraction(keras.ops.cast(step, "float32"), self.total_steps, xp=keras.ops)

    def get_config(self):
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "peak": self.peak, "total_steps": self.total_steps}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})


def progress(step, start, end, xp):
    """Return how far `step` is on the way from `start` to `end`, in `[0, 1]`."""
    return xp.clip((step - start) / max(1, end - start), 0.0, 1.0)


def after_warmup(step, warmup, value, xp):
    """Return `(step + 1) / warmup` during the first `warmup` steps, `value` after them."""
    return xp.where(step < warmup, (step + 1) / max(1, warmup), value)


def check_amount(name, amount):
    """Raise unless `amount` is a fraction of the run (float in `[0, 1)`) or a number of steps (int >= 0)."""
    if is_integer(amount) and amount >= 0:
        return
    if isinstance(amount, numbers.Real) and not isinstance(amount, numbers.Integral) and 0 <= amount < 1:
        return
    raise ValueError(
        f"{name} must be a float in [0, 1), a fraction of the run, or an int >= 0, steps. Received: {name}={amount!r}"
    )


def check_fraction(name, fraction):
    """Raise unless `fraction` is a number in `[0, 1]`."""
    if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real) or not 0 <= fraction <= 1:
        raise ValueError(f"{name} must be a fraction of the peak, in [0, 1]. Received: {name}={fraction!r}")


def steps_of(name, amount, total):
    """Return `amount`, a fraction of the run or a number of steps, in steps of a run of `total` steps."""
    steps = int(amount) if isinstance(amount, numbers.Integral) else round(amount * total)
    if steps > total:
        raise ValueError(
            f"{name} is longer than the run of {total} steps: pass fewer steps, or a fraction such as {name}=0.1. "
            f"Received: {name}={amount}"
        )
    return steps


def is_integer(value):
    """Return whether `value` is an integer of any kind, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
