"""Gradients on any backend: what the checks of layers compare with finite differences."""

import keras
import numpy as np


def gradients(function, variables):
    """Return the gradient of the scalar `function()` by each of `variables`, as arrays; zeros where there is none."""
    if keras.backend.backend() == "jax":
        import jax

        def by_value(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function()

        return [np.asarray(g) for g in jax.grad(by_value)([v.value for v in variables])]

    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = function()
    values = [v.value for v in variables]  # TensorFlow makes no zeros like a variable of Keras
    found = tape.gradient(loss, values, unconnected_gradients="zero")
    return [tf.convert_to_tensor(g).numpy() for g in found]


def differences(function, variable, step=1e-5):
    """Return the gradient of the scalar `function()` by `variable` from central differences."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(function, autograph=False)  # it is called twice for each number
    value = keras.ops.convert_to_numpy(variable)
    gradient = np.zeros(value.size)
    for i in range(value.size):
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved.flat[i] += sign * step
            variable.assign(moved)
            sides.append(float(function()))
        gradient[i] = (sides[0] - sides[1]) / (2 * step)
    variable.assign(value)
    return gradient.reshape(value.shape)
