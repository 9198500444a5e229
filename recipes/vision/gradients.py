"""Gradients of what a model says by the image that it sees."""

import keras
from keras import ops

from recipes.generative import gradients


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

    def gradient(x):
        return gradients.input_gradient(lambda x: weights * ops.cast(model(x, training=False), "float32"), x, model)

    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.jit(gradient)  # one by one, JAX would compile each operation of its own
    return ops.convert_to_numpy(gradient(x))
