"""Updates in one pass over a weight, by TensorFlow's own operations; Keras composes them of about ten.

A step of GPT-2 small spends a fifth of its time in Adam as Keras has it, on a CPU, where every pass reads and writes all
weights. Other backends fuse by themselves.
"""

import keras


def available():
    """Return whether the operations serve here: TensorFlow, without a strategy of `tf.distribute`."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()


def adam_step(variable, momentum, velocity, gradient, *, step, rate, beta_1, beta_2, epsilon):
    """Update a weight and its moments as `keras.optimizers.Adam` does.

    Args:
        variable, momentum, velocity: Float32 `tf.Variable`s.
        gradient: Tensor of their shape, or `tf.IndexedSlices`, which count as zero elsewhere.
        step: Number of this update, from 1, float32 scalar.
        rate, beta_1, beta_2, epsilon: Float32 scalars or numbers.
    """
    import tensorflow as tf

    beta_1, beta_2 = (tf.cast(beta, "float32") for beta in (beta_1, beta_2))
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=tf.cast(rate, "float32"),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon,
        grad=tf.convert_to_tensor(gradient),
    )


def shrink(variables, factor):
    """Multiply `keras.Variable`s by a scalar."""
    for variable in variables:
        variable.value.assign(variable.value * keras.ops.cast(factor, variable.dtype))
