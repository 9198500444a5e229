"""Log-densities and divergences in closed form, a number for each example."""

import math

from keras import ops


def gaussian_kl(mean, log_variance):
    """Return the divergence of `N(mean, exp(log_variance))` from the standard normal, for each dimension, in nats.

    Args:
        mean, log_variance: Tensors `(batch, latent)`.

    Returns:
        Tensor `(batch, latent)`, at least 0.

    Example:

    >>> float(gaussian_kl(np.array([[1.0]]), np.array([[0.0]]))[0, 0])
    0.5

    Reference:
        [Kingma & Welling, 2014](https://arxiv.org/abs/1312.6114), appendix B.
    """
    return 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance)


def gaussian_nll(x, mean, log_scale):
    """Return the negative log-density of `x` under `N(mean, exp(log_scale) ** 2)`, in nats an example.

    Args:
        x, mean: Tensors `(batch, ...)`.
        log_scale: Logarithm of the standard deviation, a tensor that broadcasts to them.

    Returns:
        Tensor `(batch,)`.

    Example:

    >>> round(float(gaussian_nll(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(2))[0]), 6)  # ln(2 pi)
    1.837877
    """
    return _density(x, mean, log_scale, axis=tuple(range(1, len(x.shape))))


def mixture_nll(x, means, log_scales, logits):
    """Return the negative log-density of `x` under a mixture of normal distributions, in nats an example.

    Args:
        x: Tensor `(batch, latent)`.
        means, log_scales: Of the components, `(components, latent)`.
        logits: Of their shares, `(components,)`.

    Returns:
        Tensor `(batch,)`.

    Example:

    >>> nll = mixture_nll(np.zeros((1, 2)), np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3))  # three times the same
    >>> round(float(nll[0]), 6)
    1.837877
    """
    logits = ops.convert_to_tensor(logits)
    each = -_density(x[:, None], means, log_scales, axis=2) + logits - ops.logsumexp(logits)  # (batch, components)
    return -ops.logsumexp(each, axis=1)


def bernoulli_nll(x, logits):
    """Return the negative log-likelihood of `x` in 0..1 under independent coin flips, in nats an example.

    Args:
        x: Tensor `(batch, ...)`: 0 or 1, or the chance of 1.
        logits: Tensor of the same shape.

    Returns:
        Tensor `(batch,)`.

    Example:

    >>> round(float(bernoulli_nll(np.array([[1.0, 0.0]]), np.zeros((1, 2)))[0]), 6)  # 2 ln 2
    1.386294
    """
    terms = ops.softplus(logits) - x * logits
    return ops.sum(terms, axis=tuple(range(1, len(terms.shape))))


def _density(x, mean, log_scale, axis):
    terms = 0.5 * ops.square((x - mean) * ops.exp(-log_scale)) + log_scale + 0.5 * math.log(2 * math.pi)
    return ops.sum(terms, axis=axis)
