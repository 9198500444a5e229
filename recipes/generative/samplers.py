"""From noise to data in a few steps: functions of any denoiser, on any backend.

Each takes `denoise(x, sigma)`, which guesses the clean data in `x = data + sigma * noise` for a scalar `sigma`, and falling
levels of noise that end in 0 (`karras_sigmas`, `flow_sigmas` of `recipes.generative.noising`). `x` is noise at the first of
them. All follow the same path, `dx/dsigma = (x - denoise(x, sigma)) / sigma`, so with enough steps they agree.
"""

from keras import ops


def ddim(denoise, x, sigmas):
    """Keep the guess of the noise over each step: one call of `denoise` a step, first order.

    Args:
        denoise: Function of a tensor `(batch, ...)` and a scalar tensor, the level, that returns clean data `(batch, ...)`.
        x: Noise at the first level, `(batch, ...)`.
        sigmas: Falling levels, `(steps + 1,)`, the last 0.

    Returns:
        Tensor of the shape of `x`.

    Example:

    >>> def narrow(x, sigma):  # data that are all 3
    ...     return 0 * x + 3.0
    >>> float(ddim(narrow, np.float32([[80.0]]), [80.0, 1.0, 0.0])[0, 0])
    3.0

    Reference:
        [Song et al., 2021](https://arxiv.org/abs/2010.02502), equation 13.
    """

    def step(x, level, following):
        clean = denoise(x, level)
        return (clean + following / level * (x - clean),)

    return _run(step, x, sigmas)[0]


def euler(denoise, x, sigmas):
    """Follow the velocity of flow matching in its own time, `t = sigma / (1 + sigma)`: one call a step, first order.

    On the same levels it is `ddim`, written for `(1 - t) * data + t * noise`.

    Args:
        denoise, x, sigmas: As in `ddim`.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [Lipman et al., 2023](https://arxiv.org/abs/2210.02747), section 4.1.
    """

    def step(x, level, following):
        time, later = _time(level), _time(following)
        return (x + (later - time) * _velocity(denoise, x, level),)

    return _run(step, _mixture(x, sigmas), sigmas)[0]


def heun(denoise, x, sigmas):
    """Correct each step by the slope at its end: two calls of `denoise` a step but the last, second order.

    The slope is that of `(1 - t) * data + t * noise`, `t = sigma / (1 + sigma)`. Taken by `sigma`, as in the paper, a step
    from a level of 100 to 10 makes ten times as much of what a network gets wrong there.

    Args:
        denoise, x, sigmas: As in `ddim`.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [Karras et al., 2022](https://arxiv.org/abs/2206.00364), algorithm 1.
    """

    def step(x, level, following):
        length = _time(following) - _time(level)
        slope = _velocity(denoise, x, level)
        end = _velocity(denoise, x + length * slope, following)
        return (x + length * (slope + end) / 2,)

    def last(x, level, following):
        return (denoise(x * (1 + level), level),)

    return _run(step, _mixture(x, sigmas), sigmas, last)[0]


def dpm_solver(denoise, x, sigmas):
    """Extend the change of the guess over each step, DPM-Solver++(2M): one call of `denoise` a step, second order.

    Args:
        denoise, x, sigmas: As in `ddim`.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [Lu et al., 2022](https://arxiv.org/abs/2211.01095), algorithm 2.
    """

    def step(x, level, following, before, clean_before):
        # steps are measured in the logarithm of the level; the first, where `before == level`, has nothing to extend
        ahead, past = ops.log(level / following), ops.log(before / level)
        clean = denoise(x, level)
        share = ops.where(past > 0, ahead / (2 * ops.where(past > 0, past, 1.0)), 0.0)
        extended = clean + share * (clean - clean_before)
        return extended + following / level * (x - extended), level, clean

    def last(x, level, following, before, clean_before):
        return (denoise(x, level),)

    first = ops.convert_to_tensor(sigmas, "float32")[0]
    return _run(step, x, sigmas, last, first, ops.zeros_like(x))[0]


def _time(level):
    return level / (1 + level)


def _mixture(x, sigmas):
    """Return `(1 - t) * data + t * noise` for `x`, which is `data + sigma * noise` at the first level."""
    return x / (1 + ops.convert_to_tensor(sigmas, "float32")[0])


def _velocity(denoise, x, level):
    """Return the change of `(1 - t) * data + t * noise` with the time."""
    return (x - denoise(x * (1 + level), level)) / _time(level)


SAMPLERS = {"ddim": ddim, "euler": euler, "heun": heun, "dpm_solver": dpm_solver}


def _run(step, x, sigmas, last=None, *state):
    """Apply `step(x, level, following, *state) -> (x, *state)` along the levels, and `last` in the last step, to 0."""
    sigmas = ops.convert_to_tensor(sigmas, "float32")
    steps, x = sigmas.shape[0] - 1, ops.convert_to_tensor(x)

    def body(i, values):
        return step(values[0], sigmas[i], sigmas[i + 1], *values[1:])

    values = ops.fori_loop(0, steps - 1, body, (x, *state))
    return (last or step)(values[0], sigmas[steps - 1], sigmas[steps], *values[1:])
