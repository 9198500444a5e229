"""The average of a network's weights that a generative model keeps inside itself and samples from."""

import numbers

import keras
from keras import ops


def averaged_copy(network):
    """Return a second network with the weights of `network`, none of them trainable.

    Make it in the constructor of the model, with a variable for the number of steps, and call `update_average` in
    `compute_loss`. The averages are then saved, resumed and the same on every backend without a callback.

    Args:
        network: Functional or `Sequential` `keras.Model` that is built.

    Returns:
        `keras.Model` named `{network.name}_average`.

    Example:

    >>> network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")], name="net")
    >>> average = averaged_copy(network)
    >>> average.name, len(average.trainable_weights), len(average.weights)
    ('net_average', 0, 2)
    """

    def renamed(layer):  # so that no two weights of the model have the same path
        return type(layer).from_config({**layer.get_config(), "name": f"average_{layer.name}"})

    average = keras.models.clone_model(network, clone_function=renamed)
    average.name = f"{network.name}_average"
    average.trainable = False
    average.set_weights(network.get_weights())
    return average


def update_average(average, network, steps, decay):
    """Move the weights of `average` towards those of `network` and count the step.

    With `t` earlier steps and `d = min(decay, (1 + t) / (10 + t))` each weight `a` becomes `a + (1 - d) * (w - a)`: the
    average looks back a tenth of the steps so far, and in the end `1 / (1 - decay)` of them. In `compute_loss` the weights
    are those before the step, so the average is one step late. BatchNorm's statistics are averaged like weights.

    Args:
        average: Network of `averaged_copy`.
        network: Network that is trained.
        steps: Scalar float32 variable that is not trainable, 0 at first.
        decay: Float in `[0, 1)`.

    Example:

    >>> network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="out")])
    >>> average, steps = averaged_copy(network), keras.Variable(0.0, trainable=False)
    >>> network.set_weights([np.array([[10.0]])])
    >>> average.set_weights([np.array([[0.0]])])
    >>> update_average(average, network, steps, decay=0.999)
    >>> average.get_weights()[0].round(4).tolist(), float(steps)
    ([[9.0]], 1.0)

    Reference:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946) train with this ramp, that of TensorFlow's
        `ExponentialMovingAverage(num_updates=)`; the average itself as
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B.
    """
    t = ops.convert_to_tensor(steps)
    rate = 1 - ops.minimum(decay, (1 + t) / (10 + t))
    for old, new in zip(average.weights, network.weights, strict=True):
        move = ops.stop_gradient(ops.convert_to_tensor(new)) - old
        old.assign(old + ops.cast(rate, old.dtype) * move)
    steps.assign(t + 1)


def check_decay(name, decay):
    """Raise `ValueError` unless `decay` is a number in `[0, 1)`."""
    if isinstance(decay, bool) or not isinstance(decay, numbers.Real) or not 0 <= decay < 1:
        raise ValueError(f"{name} must be a number in [0, 1), such as 0.999. Received: {name}={decay!r}")
