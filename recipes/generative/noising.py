"""How data are made noisy, and what a denoiser is asked to guess.

Everything is written for `x = data + sigma * noise`, with noise of standard deviation 1. The other ways to write a diffusion
are that one scaled: of DDPM's `sqrt(a) * data + sqrt(1 - a) * noise` the level is `sigma = sqrt((1 - a) / a)`, of flow
matching's `(1 - t) * data + t * noise` it is `sigma = t / (1 - t)`. So one sampler serves them all.
"""

import typing

import numpy as np
from keras import ops

from recipes.training.recipe import check_choice, check_count

TARGETS = ("epsilon", "v", "edm", "flow")
TIMESTEPS = 1000


class Coefficients(typing.NamedTuple):
    """What one target means at given levels.

    The network sees `scale * x` and should put out `data * clean + noise * noise_of_x`; from what it puts out, `f`, the
    clean data are guessed as `skip * x + out * f`.
    """

    scale: typing.Any
    skip: typing.Any
    out: typing.Any
    data: typing.Any
    noise: typing.Any


def coefficients(target, sigma, data_std=1.0):
    """Return the `Coefficients` of a target.

    Args:
        target: `"epsilon"`: the noise; `"v"`: noise and data, the more of either the less there is of it; `"edm"`: the same
            for data of standard deviation `data_std`; `"flow"`: noise minus data, the velocity of a straight path.
        sigma: Float tensor: the levels.
        data_std: Standard deviation of the data, for `"edm"`.

    Returns:
        `Coefficients` of the shape of `sigma`, or of numbers where they do not depend on it.

    Example:

    >>> found = coefficients("flow", np.float32(1.0))  # half way: t = 1 / 2
    >>> [float(value) for value in found]
    [0.5, 0.5, -0.5, -1.0, 1.0]

    Reference:
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), equation 14;
        [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), appendix D ("v");
        [Karras et al., 2022](https://arxiv.org/abs/2206.00364), table 1 ("edm");
        [Lipman et al., 2023](https://arxiv.org/abs/2210.02747), equations 20 to 23 ("flow").
    """
    check_choice("target", target, TARGETS)
    if target == "flow":
        time = sigma / (1 + sigma)
        return Coefficients(1 - time, 1 - time, -time, -1.0, 1.0)
    if target == "edm":
        length = ops.sqrt(ops.square(sigma) + data_std**2)
        rest, part = data_std / length, sigma / length
        return Coefficients(1 / length, ops.square(rest), sigma * rest, part / data_std, -rest)
    length = ops.sqrt(ops.square(sigma) + 1)
    if target == "v":
        return Coefficients(1 / length, 1 / ops.square(length), -sigma / length, -sigma / length, 1 / length)
    return Coefficients(1 / length, 1.0, -sigma, 0.0, 1.0)


def linear_betas(first=1e-4, last=0.02, timesteps=TIMESTEPS):
    """Return the share of the variance that each step replaces by noise, growing evenly: `(timesteps,)`.

    Reference:
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), section 4.
    """
    check_count("timesteps", timesteps)
    return np.linspace(first, last, timesteps)


def cosine_betas(timesteps=TIMESTEPS):
    """Return betas whose product falls like a squared cosine, slower at both ends than `linear_betas`: `(timesteps,)`.

    Reference:
        [Nichol & Dhariwal, 2021](https://arxiv.org/abs/2102.09672), equation 17.
    """
    check_count("timesteps", timesteps)
    left = np.cos((np.arange(timesteps + 1) / timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - left[1:] / left[:-1], 0.999)


def table_of_sigmas(betas):
    """Return the level after each step: `sqrt((1 - a) / a)` with `a` the product of `1 - betas` so far, `(timesteps,)`.

    Args:
        betas: `"cosine"`; `(first, last)` of betas that grow evenly over 1000 steps; or an array of more than two.

    Returns:
        Float64 array, growing.

    Raises:
        ValueError: If a beta is not in (0, 1).

    Example:

    >>> table_of_sigmas((1e-4, 0.02))[[0, -1]].round(2).tolist()
    [0.01, 157.41]
    """
    if isinstance(betas, str):
        check_choice("betas", betas, ("cosine",))
        betas = cosine_betas()
    values = np.asarray(betas, "float64")
    if values.ndim != 1 or len(values) < 2 or not np.all((values > 0) & (values < 1)):
        raise ValueError(
            f'betas must be (first, last) or more numbers, each in (0, 1), or "cosine". Received: betas={betas!r}'
        )
    if len(values) == 2:
        values = linear_betas(*values)
    left = np.cumprod(1 - values)
    return np.sqrt((1 - left) / left)


def karras_sigmas(steps, smallest=0.002, largest=80.0, rho=7.0):
    """Return levels from `largest` to `smallest`, then 0, for a sampler of so many steps: `(steps + 1,)`.

    Args:
        steps: Number of steps, at least 2.
        smallest: Last level above 0.
        largest: First level.
        rho: The greater, the shorter are the steps at the end. 1 takes levels at equal distances.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> karras_sigmas(3).astype("float64").round(3).tolist()
    [80.0, 2.515, 0.002, 0.0]

    Reference:
        [Karras et al., 2022](https://arxiv.org/abs/2206.00364), equation 5.
    """
    check_count("steps", steps, minimum=2)
    if not 0 < smallest < largest < float("inf"):
        raise ValueError(f"smallest must be in (0, largest). Received: smallest={smallest!r}, largest={largest!r}")
    if not rho > 0:
        raise ValueError(f"rho must be greater than 0. Received: rho={rho!r}")
    return np.append(np.linspace(largest ** (1 / rho), smallest ** (1 / rho), steps) ** rho, 0.0).astype("float32")


def flow_sigmas(steps, first=0.999):
    """Return the levels of times at equal distances from `first` to 0, `t / (1 - t)`: `(steps + 1,)`.

    Args:
        steps: Number of steps, at least 2.
        first: First time, in (0, 1). At 1, all noise, the level would be infinite.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> flow_sigmas(2, first=0.5).astype("float64").round(3).tolist()
    [1.0, 0.333, 0.0]
    """
    check_count("steps", steps, minimum=2)
    if not 0 < first < 1:
        raise ValueError(f"first must be in (0, 1). Received: first={first!r}")
    times = np.linspace(first, 0, steps + 1)
    return (times / (1 - times)).astype("float32")
