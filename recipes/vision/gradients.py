"""Gradients by what goes in, which Keras leaves to the backends."""

import keras
from keras import ops


def input_gradient(model, x, weights):
    """Return the gradient of `sum(weights * model(x))` by `x`, in inference mode.

    Args:
        model: Model from one tensor to one tensor.
        x: Array of floats.
        weights: Array of the shape of `model(x)`.

    Returns:
        Float32 array of the shape of `x`.
    """
    x, weights = ops.convert_to_tensor(x, "float32"), ops.convert_to_tensor(weights, "float32")
    gradient = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](model, x, weights)
    return ops.convert_to_numpy(gradient)


def _weighted(outputs, weights):
    return ops.sum(weights * ops.cast(outputs, "float32"))


def _tensorflow(model, x, weights):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        total = _weighted(model(x, training=False), weights)
    return tape.gradient(total, x, unconnected_gradients="zero")


def _jax(model, x, weights):
    import jax

    state = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

    def total(x):
        outputs, _ = model.stateless_call(*state, x, training=False)
        return _weighted(outputs, weights)

    return jax.jit(jax.grad(total))(x)  # one by one, JAX would compile each operation of its own


def _torch(model, x, weights):
    import torch

    x = x.detach().requires_grad_()
    with torch.enable_grad():
        total = _weighted(model(x, training=False), weights)
    return torch.autograd.grad(total, x)[0]
