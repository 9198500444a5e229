"""AdamW, SGD, LAMB and RMSProp as recipes use them: the decay rule, layer-wise rates, a momentum that can be scheduled.

Keras' own optimizers lose `exclude_from_weight_decay` when a model is reloaded, have no learning-rate factor per layer
and keep the momentum as a Python constant. These own all three, in `get_config` and in `variables`.
"""

import re

import keras
from keras import ops

from recipes.training import fused

# What weight decay spares besides vectors: places, not features. Token embeddings decay.
_SPARED = re.compile(r"(^|[/_])(bias|gamma|beta|position_embedding|class_token)(/embeddings?)?$")


def decays(variable):
    """Return whether weight decay applies to `variable`: matrices and kernels yes; vectors, biases and positions no."""
    return len(variable.shape) > 1 and not _SPARED.search(variable.path)


def _is_expression(pattern):
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


class _RecipeOptimizer:
    """What the optimizers share. `lr_multipliers` are `(regular expression, factor)`; the first match wins."""

    def __init__(self, *, learning_rate, weight_decay, lr_multipliers=(), **kwargs):
        if isinstance(learning_rate, (int, float)):
            if not 0 <= learning_rate < float("inf"):
                raise ValueError(f"learning_rate must be a finite number >= 0. Received: learning_rate={learning_rate}")
            learning_rate = float(learning_rate)  # Keras makes an integer variable of an int
        if weight_decay is not None and not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be a finite number >= 0. Received: weight_decay={weight_decay}")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.lr_multipliers = tuple((str(pattern), float(factor)) for pattern, factor in lr_multipliers)
        for pattern, factor in self.lr_multipliers:
            if not 0 <= factor < float("inf") or not _is_expression(pattern):
                raise ValueError(
                    f"lr_multipliers must be (regular expression, factor >= 0). Received: lr_multipliers={lr_multipliers}"
                )
        self._factor = 1.0

    def _own_momentum(self, momentum):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum (beta_1) must be in [0, 1). Received: {momentum}")
        self._initial_momentum = float(momentum)
        initializer = keras.initializers.Constant(momentum)
        self.momentum_variable = self.add_variable((), initializer, dtype="float32", name="momentum_rate")

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._factors = tuple(
            next((factor for pattern, factor in self.lr_multipliers if re.search(pattern, v.path)), 1.0) for v in variables
        )
        self._decaying = tuple(decays(v) for v in variables)  # TensorFlow's variable in `update_step` has no path

    def _by_factor(self, variables):
        groups = {}
        for i, v in enumerate(variables):
            groups.setdefault(self._factors[self._get_variable_index(v)], []).append(i)
        return groups.items()

    def _get_current_learning_rate(self):
        rate = super()._get_current_learning_rate()
        return rate if self._factor == 1.0 else rate * self._factor

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() != "torch":  # one call: each is an all-reduce of its own under tf.distribute
            return super()._backend_update_step(grads, trainable_variables, learning_rate)
        for factor, index in self._by_factor(trainable_variables):  # torch updates all variables at once, at one rate
            rate = learning_rate if factor == 1.0 else learning_rate * factor
            super()._backend_update_step([grads[i] for i in index], [trainable_variables[i] for i in index], rate)

    def _rate_of(self, variable, learning_rate):
        """Return the learning rate of one variable, for `update_step`."""
        factor = 1.0 if keras.backend.backend() == "torch" else self._factors[self._get_variable_index(variable)]
        return learning_rate if factor == 1.0 else learning_rate * factor

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        variables = [v for v in variables if decays(v)]
        for factor, index in self._by_factor(variables):
            self._factor = factor  # the decay of Keras is read through `learning_rate`
            try:
                if fused.available():
                    fused.shrink([variables[i] for i in index], 1 - self.learning_rate * self.weight_decay)
                else:
                    super()._apply_weight_decay([variables[i] for i in index])
            finally:
                self._factor = 1.0

    def get_config(self):
        return {**super().get_config(), "lr_multipliers": [list(pair) for pair in self.lr_multipliers]}


@keras.saving.register_keras_serializable("recipes")
class AdamW(_RecipeOptimizer, keras.optimizers.AdamW):
    """Adam with decoupled weight decay that spares vectors, positions and class tokens.

    Args:
        learning_rate: Float >= 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Float >= 0. Each step subtracts `learning_rate * weight_decay * weight`.
        beta_1: Float in `[0, 1)`. Kept in `momentum_variable`, so that `OneCycle` can move it during `fit`.
        beta_2: Float in `[0, 1)`.
        epsilon: Float > 0.
        lr_multipliers: Sequence of `(regular expression, factor)`. A variable whose path matches learns at
            `learning_rate * factor`, decay included; the first match wins, 1.0 without one. Let the expression accept
            any prefix, because paths gain and lose one when a model is reloaded.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, such as `global_clipnorm`, `gradient_accumulation_steps`.

    Example:

    >>> optimizer = AdamW(1e-3, weight_decay=0.05, lr_multipliers=[("stem", 0.1)])

    Reference:
        [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101), algorithm 2.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        weight_decay=0.01,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        lr_multipliers=(),
        name="adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            lr_multipliers=lr_multipliers,
            name=name,
            **kwargs,
        )
        self._own_momentum(beta_1)
        self.beta_1 = self.momentum_variable

    def update_step(self, gradient, variable, learning_rate):
        rate = self._rate_of(variable, learning_rate)
        if self.amsgrad or variable.dtype != "float32" or not fused.available():
            super().update_step(gradient, variable, rate)
            return
        index, step = self._get_variable_index(variable), ops.cast(self.iterations + 1, "float32")
        moments = self._momentums[index].value, self._velocities[index].value
        betas = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        fused.adam_step(variable, *moments, gradient, step=step, rate=rate, **betas)

    def get_config(self):
        return {**super().get_config(), "beta_1": self._initial_momentum}


@keras.saving.register_keras_serializable("recipes")
class SGD(_RecipeOptimizer, keras.optimizers.SGD):
    """Stochastic gradient descent with (Nesterov) momentum and decoupled weight decay.

    The update is `velocity = momentum * velocity - rate * gradient`. The decay is decoupled, `weight -= rate *
    weight_decay * weight`; with momentum `m`, torch's coupled `weight_decay=d` shrinks weights `1 / (1 - m)` times as
    fast, so pass `d / (1 - m)` here to reproduce it.

    Args:
        learning_rate: Float >= 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: Float in `[0, 1)`. Kept in `momentum_variable`, so that `OneCycle` can move it during `fit`.
        nesterov: Whether to look ahead, as in Sutskever et al., 2013, equation 4.
        weight_decay: Float >= 0 or `None`. Spares vectors, positions and class tokens.
        lr_multipliers: Sequence of `(regular expression, factor)`, as in `AdamW`.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Example:

    >>> optimizer = SGD(0.1, momentum=0.9, weight_decay=5e-3)

    Reference:
        [Sutskever et al., 2013](https://proceedings.mlr.press/v28/sutskever13.html), equations 1-4.
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=None,
        lr_multipliers=(),
        name="sgd",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            lr_multipliers=lr_multipliers,
            name=name,
            **kwargs,
        )
        self._own_momentum(momentum)

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(self._rate_of(variable, learning_rate), variable.dtype)
        step = ops.cast(gradient, variable.dtype) * rate
        if not self._initial_momentum:
            self.assign_sub(variable, step)
            return
        momentum = ops.cast(self.momentum_variable, variable.dtype)
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(velocity, velocity * momentum - step)
        self.assign_add(variable, velocity * momentum - step if self.nesterov else velocity)


@keras.saving.register_keras_serializable("recipes")
class LAMB(_RecipeOptimizer, keras.optimizers.Lamb):
    """Adam whose step in each matrix is as long as `learning_rate` times the matrix itself: for large batches.

    Unlike in `keras.optimizers.Lamb` the decay belongs to the step that is scaled, as in the paper, and what is spared
    from decay (vectors, positions, class tokens) takes plain steps of Adam, as in the authors' BERT and in timm: scaled,
    a bias that starts at zero would hardly leave it.

    Args:
        learning_rate: Float >= 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Float >= 0: the share of the weight that is added to Adam's step before it is scaled.
        beta_1: Float in `[0, 1)`. Kept in `momentum_variable`, so that `OneCycle` can move it during `fit`.
        beta_2: Float in `[0, 1)`.
        epsilon: Float > 0.
        lr_multipliers: Sequence of `(regular expression, factor)`, as in `AdamW`.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Example:

    >>> optimizer = LAMB(5e-3, weight_decay=0.02)

    Reference:
        [You et al., 2020](https://arxiv.org/abs/1904.00962), algorithm 2.
    """

    def __init__(
        self,
        learning_rate=5e-3,
        weight_decay=0.02,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        lr_multipliers=(),
        name="lamb",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            lr_multipliers=lr_multipliers,
            name=name,
            **kwargs,
        )
        self._own_momentum(beta_1)
        self.beta_1 = self.momentum_variable

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        rate = ops.cast(self._rate_of(variable, learning_rate), dtype)
        gradient, t = ops.cast(gradient, dtype), ops.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = ops.cast(self.beta_1, dtype), ops.cast(self.beta_2, dtype)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - beta_2))
        step = m / (1 - ops.power(beta_1, t)) / (ops.sqrt(v / (1 - ops.power(beta_2, t))) + self.epsilon)
        if self._decaying[index]:
            if self.weight_decay:
                step = step + self.weight_decay * variable
            weight, length = ops.sqrt(ops.sum(ops.square(variable))), ops.sqrt(ops.sum(ops.square(step)))
            known = ops.logical_and(weight > 0, length > 0)
            step = step * ops.where(known, weight / ops.where(known, length, ops.ones_like(length)), 1.0)
        self.assign_sub(variable, rate * step)

    def _apply_weight_decay(self, variables):
        return  # it is part of the step

    def get_config(self):
        return {**super().get_config(), "beta_1": self._initial_momentum}


@keras.saving.register_keras_serializable("recipes")
class RMSProp(_RecipeOptimizer, keras.optimizers.RMSprop):
    """RMSProp with momentum as EfficientNet is trained: epsilon within the root, and an L2 penalty.

    `weight_decay` is added to the gradient, as the penalty of the papers' loss is, so 1e-5 here does what it did there;
    the other optimizers subtract the decay beside the step.

    Args:
        learning_rate: Float >= 0, or a `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Float >= 0 or `None`: `weight_decay * weight` is added to the gradient. Spares what `AdamW` spares.
        momentum: Float in `[0, 1)`. Kept in `momentum_variable`, so that `OneCycle` can move it during `fit`.
        rho: Float in `[0, 1)`: how slowly the average of the squared gradients moves.
        epsilon: Float > 0.
        lr_multipliers: Sequence of `(regular expression, factor)`, as in `AdamW`.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Example:

    >>> optimizer = RMSProp(0.016, weight_decay=1e-5)

    Reference:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), section 5.2; epsilon as in the authors' code.
    """

    def __init__(
        self,
        learning_rate=0.016,
        weight_decay=1e-5,
        momentum=0.9,
        rho=0.9,
        epsilon=1e-3,
        lr_multipliers=(),
        name="rmsprop",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            momentum=momentum,
            rho=rho,
            epsilon=epsilon,
            centered=False,
            lr_multipliers=lr_multipliers,
            name=name,
            **kwargs,
        )
        self._own_momentum(momentum)

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        rate, gradient = ops.cast(self._rate_of(variable, learning_rate), dtype), ops.cast(gradient, dtype)
        if self.weight_decay and self._decaying[self._get_variable_index(variable)]:
            gradient = gradient + self.weight_decay * variable
        velocity = self._velocities[index]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * ops.square(gradient))
        step = rate * gradient / ops.sqrt(velocity + self.epsilon)
        if self._initial_momentum:
            momentum = self._momentums[index]
            self.assign(momentum, ops.cast(self.momentum_variable, dtype) * momentum + step)
            step = momentum
        self.assign_sub(variable, step)

    def _apply_weight_decay(self, variables):
        return  # it is part of the gradient

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "centered"}
