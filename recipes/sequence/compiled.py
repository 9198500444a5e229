"""Compile a function that runs a model, on whichever backend."""

import keras

KEPT = 16  # compiled functions a model holds on to, the last used


def compiled(model, key, function):
    """Return `function` compiled, the same as the last time for the same `key`.

    Args:
        model: Model whose variables `function` reads; they may change between calls.
        key: Tuple that tells functions of `model` apart.
        function: Function of tensors that returns tensors.

    Returns:
        Function of arrays that returns tensors.
    """
    if not hasattr(model, "_compiled_functions"):
        object.__setattr__(model, "_compiled_functions", {})  # past Keras' attribute tracking: nothing to save
    functions = model._compiled_functions
    if key not in functions:
        functions[key] = _COMPILE.get(keras.backend.backend(), lambda model, function: function)(model, function)
    functions[key] = functions.pop(key)  # the last used is the last
    for old in list(functions)[:-KEPT]:
        del functions[old]
    return functions[key]


def _tensorflow(model, function):
    import tensorflow as tf

    recurrent = any(isinstance(layer, keras.layers.RNN) for layer in model._flatten_layers())  # cuDNN is not for XLA
    return tf.function(function, jit_compile=not loops_copy() and not recurrent)


def loops_copy():
    """Return whether a loop copies at each turn all of a tensor that the turn changes in one place, as XLA's does not."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _jax(model, function):
    import jax

    variables = model.variables

    @jax.jit
    def run(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    return lambda *arguments: run([v.value for v in variables], *arguments)


_COMPILE = {"tensorflow": _tensorflow, "jax": _jax}
