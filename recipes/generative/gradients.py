"""Gradients by what goes in, which Keras leaves to the backends; and networks held constant."""

import keras
from keras import ops


def input_gradient(function, x, *models):
    """Return the gradient of `sum(function(x))` by `x`. It can be differentiated again, as gradient penalties are.

    Args:
        function: From one tensor to one tensor.
        x: Float tensor.
        *models: Models or layers that `function` calls. What they change on the way, such as BatchNorm's statistics and
            the seeds of dropout, is dropped on JAX.

    Returns:
        Tensor of the shape of `x`.

    Example:

    >>> x = keras.ops.convert_to_tensor([1.0, 3.0])
    >>> keras.ops.convert_to_numpy(input_gradient(lambda t: t**2, x)).tolist()
    [2.0, 6.0]
    """
    return output_and_gradient(function, x, *models)[1]


def output_and_gradient(function, x, *models):
    """Return `(function(x), gradient of its sum by x)`, from one pass; arguments as in `input_gradient`."""
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](function, x, models)


def _tensorflow(function, x, models):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = function(x)
        total = ops.sum(y)
    return y, tape.gradient(total, x, unconnected_gradients="zero")


def _jax(function, x, models):
    import jax

    def total(x):
        # values changed within the inner gradient must not leave it
        with keras.StatelessScope([(v, v.value) for model in models for v in model.variables]):
            y = function(x)
        return ops.sum(y), y

    gradient, y = jax.grad(total, has_aux=True)(x)
    return y, gradient


def _torch(function, x, models):
    import torch

    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        y = function(x)
        return y, torch.autograd.grad(ops.sum(y), x, create_graph=True)[0]


def loss_and_gradients(function, values):
    """Return `(loss, others, gradients of the loss by each of values)` of `loss, others = function(values)`.

    Unlike what a backend does by itself, this may stand in a branch of its condition and still be compiled by XLA:
    TensorFlow hands all that the backward pass needs out of the branch, constants too, and XLA wants to know these.

    Args:
        function: From a list of float tensors to a scalar, and a list of tensors.
        values: List of float tensors.

    Example:

    >>> x = keras.ops.convert_to_tensor([1.0, 3.0])
    >>> loss, others, (gradient,) = loss_and_gradients(lambda values: (keras.ops.sum(values[0] ** 2), []), [x])
    >>> float(loss), keras.ops.convert_to_numpy(gradient).tolist()
    (10.0, [2.0, 6.0])
    """
    if keras.backend.backend() == "jax":
        import jax

        (loss, others), gradients = jax.value_and_grad(function, has_aux=True)(values)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss, others = function(values)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, values, unconnected_gradients="zero")]
    else:
        import torch

        with torch.enable_grad():
            values = [value.detach().requires_grad_() for value in values]
            loss, others = function(values)
            gradients = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
    return loss, others, list(gradients)


def frozen(*models):
    """Return a scope in which all variables of `models` are constants: no gradient reaches them, no statistic moves.

    One backward pass can so train two networks against each other: the generator's loss sees the discriminator, and only
    the generator learns from it. Setting `trainable` inside a loss would not do, as Keras reads it when it compiles.

    Example:

    >>> layer = keras.layers.BatchNormalization(name="norm")
    >>> before = layer(np.ones((4, 1)))
    >>> with frozen(layer):
    ...     y = layer(np.ones((4, 1)), training=True)
    >>> float(layer.moving_mean[0])
    0.0
    """
    return keras.StatelessScope([(v, ops.stop_gradient(v.value)) for model in models for v in model.variables])
