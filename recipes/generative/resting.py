"""AdamW for models that train in stages: what has no gradient rests."""

import keras
from keras import ops

from recipes.training.optimizer import AdamW
from recipes.training.recipe import check_count


@keras.saving.register_keras_serializable("recipes")
class RestingAdamW(AdamW):
    """AdamW that leaves a weight alone as long as its gradient is zero everywhere.

    Such a weight keeps its value bit for bit, and so do its moments: neither decay nor momentum moves it. Each weight counts
    its own steps, so the first steps of a stage that begins late are as long as those of the first one.

    Args:
        learning_rate: Float >= 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Float >= 0. Each step subtracts `learning_rate * weight_decay * weight`; spares what `AdamW` spares.
        warmup: Number of steps over which the rate of a weight rises, once it begins to learn.
        **kwargs: Further arguments of `AdamW`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> optimizer, resting = RestingAdamW(0.1, weight_decay=0.5), keras.Variable([[1.0]])
    >>> optimizer.apply([np.array([[0.0]], "float32")], [resting])
    >>> float(resting[0, 0])
    1.0

    Reference:
        [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101), algorithm 2, a step counter for each weight.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=0.01, warmup=0, name="resting_adamw", **kwargs):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        check_count("warmup", warmup, minimum=0)
        self.warmup = warmup

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._steps = [self.add_variable((), "zeros", dtype="float32", name="steps") for _ in variables]

    def update_step(self, gradient, variable, learning_rate):
        index, dtype = self._get_variable_index(variable), variable.dtype
        gradient = ops.cast(ops.convert_to_tensor(gradient), dtype)
        learns = ops.any(ops.not_equal(gradient, 0))
        slots = (variable, self._momentums[index], self._velocities[index], self._steps[index])
        value, m, v, steps = (ops.convert_to_tensor(slot) for slot in slots)
        beta_1, t = ops.cast(self.beta_1, dtype), steps + 1.0
        new_m = m + (gradient - m) * (1 - beta_1)
        new_v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        rate = ops.cast(self._rate_of(variable, learning_rate), dtype)
        if self.warmup:
            rate = rate * ops.cast(ops.minimum(t / self.warmup, 1.0), dtype)
        power = ops.cast(t, dtype)
        correction = ops.sqrt(1 - ops.power(ops.cast(self.beta_2, dtype), power)) / (1 - ops.power(beta_1, power))
        step = new_m * correction / (ops.sqrt(new_v) + self.epsilon)
        if self.weight_decay and self._decaying[index]:
            step = step + self.weight_decay * value
        for slot, new, old in zip(slots, (value - rate * step, new_m, new_v, t), (value, m, v, steps), strict=True):
            self.assign(slot, ops.where(learns, new, old))

    def _apply_weight_decay(self, variables):
        return  # it is part of the step

    def get_config(self):
        return {**super().get_config(), "warmup": self.warmup}
