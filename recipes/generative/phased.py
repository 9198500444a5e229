"""Training in which networks take turns: several losses a step, each for the variables of one network."""

import dataclasses
from collections.abc import Callable

import keras

from recipes.generative.model import GenerativeModel
from recipes.training.finite import all_finite, apply_finite


@dataclasses.dataclass(frozen=True)
class Phase:
    """One update of one network. It is made at the steps (batches, from 0) `at`, `at + every`, `at + 2 * every` ...

    Args:
        name: What tells the phase from the model's others.
        network: Name of the attribute of the model, and of its optimizer, that learns: `"generator"`, `"discriminator"`.
        loss: Function `(x, labels, training) -> scalar`, which updates the metrics, as `GenerativeModel.batch_loss` does.
        every: Number of steps from one update to the next.
        at: The first step with an update, less than `every`.
    """

    name: str
    network: str
    loss: Callable
    every: int = 1
    at: int = 0


class Phased:
    """Has the networks of a `GenerativeModel` updated in turn, each update seeing what those before it have done.

    Name it before the model's class: `class WassersteinGAN(Phased, AdversarialModel)`. A family overrides `phases` instead
    of `batch_loss` and compiles with `TwoOptimizers`. What is due at a step is known before it runs: each combination of
    phases is a program of its own, without a branch in it, so nothing is computed that is not due, and on several devices
    too the updates can be made. Which comes next follows from `optimizer.iterations`, which counts batches and is saved.
    """

    def phases(self):
        """Return the list of `Phase` in the order of a step."""
        raise NotImplementedError(f"{type(self).__name__} must have a method phases")

    def due(self, step):
        """Return the names of the phases that step `step` makes, in order."""
        return tuple(phase.name for phase in self.phases() if step % phase.every == phase.at)

    def batch_loss(self, x, labels, training):
        return sum(phase.loss(x, labels, training) for phase in self.phases())  # what evaluate reports

    def make_train_function(self, force=False):
        self.check_adapted()
        self._step = None  # read when the first step runs: a checkpoint may be restored before it
        if self.train_function is not None and not force:
            return
        if self.steps_per_execution != 1:
            raise ValueError(f"steps_per_execution must be 1 for phases. Received: {self.steps_per_execution}")
        programs = {}

        def run(*arguments):
            if self._step is None:
                self._step = _iterations(self, arguments)
            self._due = self.due(self._step)  # seen by `train_step` if this call traces it
            try:
                if self._due not in programs:
                    programs[self._due] = self._make_program()
                    self.train_function = run
                results = programs[self._due](*arguments)
            finally:
                self._due = None
            self._step += 1
            return results

        self.train_function = run

    def _make_program(self):
        """Return a train function of Keras, not traced yet."""

        def step(*arguments):  # not the method itself: of equal functions JAX keeps one trace
            return type(self).train_step(self, *arguments)

        object.__setattr__(self, "train_step", step)
        try:
            # past our check of the statistics: `fit` on JAX has taken the values out of the variables that it reads
            super(GenerativeModel, self).make_train_function(force=True)
        finally:
            object.__delattr__(self, "train_step")
        return self.train_function

    def train_step(self, *arguments):
        """Make the phases that are due; all of them if this is called by itself."""
        due = getattr(self, "_due", None)
        phases = [phase for phase in self.phases() if due is None or phase.name in due]
        return _STEP[keras.backend.backend()](self, phases, *arguments)


def _iterations(model, arguments):
    """Return the number of steps so far; on JAX, where `fit` takes the values out of the variables, from its state."""
    variable = model.optimizer.iterations
    if keras.backend.backend() == "jax":
        index = next(i for i, v in enumerate(model.optimizer.variables) if v is variable)
        return int(arguments[0][2][index])
    return int(keras.ops.convert_to_numpy(variable))


def _batch(model, data):
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    if weight is not None:
        raise ValueError("sample_weight and class_weight must be None: generative models learn all data alike.")
    return model.to_network(x), model.batch_labels(y)


def _finish(model, losses, x):
    """Update the metric that every Keras model has; return the logs of the step."""
    model._loss_tracker.update_state(sum(losses), sample_weight=keras.ops.shape(x)[0])
    model.optimizer.count()
    return model.get_metrics_result()


def _tensorflow(model, phases, data):
    import tensorflow as tf

    if not model.optimizer.built:
        with tf.init_scope():
            model.optimizer.build(model.trainable_variables)
    x, labels = _batch(model, data)
    losses = []
    for phase in phases:
        variables, optimizer = getattr(model, phase.network).trainable_variables, getattr(model.optimizer, phase.network)
        with tf.GradientTape() as tape:
            loss = phase.loss(x, labels, True)
            scaled = optimizer.scale_loss(loss / model.replicas)
        # what a loss does not reach, such as R1 the last bias, has the gradient 0, as on JAX
        gradients = tape.gradient(scaled, [v.value for v in variables], unconnected_gradients="zero")
        if model.replicas > 1 or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.apply(gradients, variables)  # as `finite.guard` does
        else:
            apply_finite(optimizer.apply, gradients, variables)
        losses.append(loss)
    return _finish(model, losses, x)


def _torch(model, phases, data):
    import torch

    x, labels = _batch(model, data)
    losses = []
    for phase in phases:
        variables, optimizer = getattr(model, phase.network).trainable_variables, getattr(model.optimizer, phase.network)
        loss = phase.loss(x, labels, True)
        gradients = torch.autograd.grad(optimizer.scale_loss(loss), [v.value for v in variables], materialize_grads=True)
        with torch.no_grad():
            optimizer.apply(list(gradients), variables)
        losses.append(loss.detach())
    return _finish(model, losses, x)


def _jax(model, phases, state, data):
    import jax

    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    everything = [v for group in groups for v in group]
    values = {id(v): value for group, part in zip(groups, state, strict=True) for v, value in zip(group, part, strict=True)}

    def scope(values):
        return keras.StatelessScope([(v, values[id(v)]) for v in everything])

    def current(scope):
        return {id(v): scope.get_current_value(v) for v in everything}

    with scope(values):
        x, labels = _batch(model, data)
    losses = []
    for phase in phases:
        variables, optimizer = getattr(model, phase.network).trainable_variables, getattr(model.optimizer, phase.network)

        def loss_of(weights, phase=phase, variables=variables, optimizer=optimizer, values=values):
            weights = {id(v): weight for v, weight in zip(variables, weights, strict=True)}
            with scope({**values, **weights}) as changed:
                loss = phase.loss(x, labels, True)
                scaled = optimizer.scale_loss(loss)
            return scaled, (loss, current(changed))

        weights = [values[id(v)] for v in variables]
        (_, (loss, values)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
        with scope(values) as changed:
            optimizer.apply(gradients, variables)
        new = current(changed)
        if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            finite, updated = all_finite(gradients), (*variables, *optimizer.variables)
            new |= {id(v): keras.ops.where(finite, new[id(v)], values[id(v)]) for v in updated}
        values = new
        losses.append(loss)
    with scope(values) as changed:
        logs = _finish(model, losses, x)
    values = current(changed)
    return logs, tuple([values[id(v)] for v in group] for group in groups)


_STEP = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
