"""How good samples are: the Fréchet distance, precision, recall, density and coverage, on features of your choice."""

import numpy as np

from recipes.training.recipe import check_count

ROWS = 1024  # of a matrix of distances that are in memory at once


def generative_measures(real, generated, *, features=None, neighbours=5):
    """Compare generated with real data by their features.

    Only values on the same features, of as many examples, compare: what is called FID in papers takes 50,000 examples
    and an Inception network, which `features` can be.

    Args:
        real: Real data that the model was not trained on: images, or vectors if there are no `features`.
        generated: Generated data, best as many: `model.sample(len(real))`.
        features: Function from data to features `(examples, width)`, such as a Keras model that ends before its head
            (its `predict` is called), or `None` to compare the data as they are, flattened.
        neighbours: What a neighbourhood is: it reaches from an example to the so-manieth nearest of its own set.

    Returns:
        Dict of floats: `frechet_distance` (0 is best); `precision`, the share of the generated that lies in a
        neighbourhood of a real one; `recall`, the share of the real ones that lie in one of a generated one; `density`,
        in how many more real neighbourhoods than expected a generated one lies (1 where both sets are alike, more is
        possible); `coverage`, the share of the real neighbourhoods that hold a generated one.

    Raises:
        ValueError: If the features are not finite, are not of the same width, or are too few.

    Example:

    >>> random = np.random.default_rng(0)
    >>> real, generated = random.normal(size=(2, 200, 3))
    >>> measures = generative_measures(real, generated * [1, 1, 0])
    >>> measures["precision"] > 0.9, measures["recall"] < 0.5
    (True, True)

    Reference:
        [Kynkäänniemi et al., 2019](https://arxiv.org/abs/1904.06991), equations 1 and 2 (precision, recall);
        [Naeem et al., 2020](https://arxiv.org/abs/2002.09797), section 3 (density, coverage; 5 neighbours).
    """
    real, generated = (_features(data, features) for data in (real, generated))
    return {
        "frechet_distance": frechet_distance(real, generated),
        **neighbourhood_measures(real, generated, neighbours),
    }


def frechet_distance(real, generated):
    """Return the squared Fréchet distance of two Gaussians with the means and covariances of two sets of features.

    Args:
        real: Array `(examples, width)`.
        generated: Array `(examples, width)`, at least 2 examples, better many more than `width`.

    Returns:
        Float >= 0: `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`.

    Raises:
        ValueError: If the features are not finite, are not of the same width, or are too few.

    Example:

    >>> a = np.array([[-1.0], [1.0]])
    >>> round(frechet_distance(a, 3 * a + 5), 6)  # 5 ** 2, and standard deviations of 2 ** .5 and 3 * 2 ** .5
    33.0

    Reference:
        [Heusel et al., 2017](https://arxiv.org/abs/1706.08500), equation 6.
    """
    real, generated = _checked(real, generated, least=2)
    means = [x.mean(axis=0) for x in (real, generated)]
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, generated))
    root = _symmetric_root(first)
    # (C1 C2)^(1/2) has the trace of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric: no complex numbers come in
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    distance = np.sum((means[0] - means[1]) ** 2) + np.trace(first) + np.trace(second) - 2 * mixed
    return float(max(distance, 0.0))


def neighbourhood_measures(real, generated, neighbours=5):
    """Return precision, recall, density and coverage of features, as `generative_measures` explains them.

    Example:

    >>> line = np.arange(6.0)[:, None]
    >>> neighbourhood_measures(line, line + 100, neighbours=1)
    {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """
    check_count("neighbours", neighbours)
    real, generated = _checked(real, generated, least=neighbours + 1)
    centre = real.mean(axis=0)  # differences of large numbers lose digits
    real, generated = real - centre, generated - centre
    rounding = 1e-12 * max(np.square(real).sum(axis=1).max(), np.square(generated).sum(axis=1).max())
    real_reach, generated_reach = (_reach(x, neighbours) + rounding for x in (real, generated))
    holding, near_generated = np.zeros(len(generated)), []  # real neighbourhoods that hold each generated one
    covered = []
    for start in range(0, len(real), ROWS):
        rows = slice(start, start + ROWS)
        distances = _squared_distances(real[rows], generated)
        within = distances <= real_reach[rows, None]
        holding += within.sum(axis=0)
        covered.append(within.any(axis=1))
        near_generated.append((distances <= generated_reach).any(axis=1))
    return {
        "precision": float(np.mean(holding > 0)),
        "recall": float(np.mean(np.concatenate(near_generated))),
        "density": float(holding.mean() / neighbours),
        "coverage": float(np.mean(np.concatenate(covered))),
    }


def _features(data, features):
    if features is None:
        return np.reshape(data, (len(data), -1))
    if hasattr(features, "predict"):
        return np.asarray(features.predict(data, verbose=0))
    return np.asarray(features(data))


def _checked(real, generated, least):
    arrays = []
    for name, x in (("real", real), ("generated", generated)):
        x = np.asarray(x, "float64")
        if x.ndim != 2:
            raise ValueError(f"{name} must have features of shape (examples, width). Received: shape {x.shape}")
        if len(x) < least:
            raise ValueError(f"{name} must have at least {least} examples. Received: {len(x)}")
        finite = np.isfinite(x).all(axis=1)
        if not finite.all():
            raise ValueError(f"{name} must be finite. Received: {int((~finite).sum())} rows that are not")
        arrays.append(x)
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(
            "generated must have features of the same width as real. "
            f"Received: {arrays[1].shape[1]} and {arrays[0].shape[1]}"
        )
    return arrays


def _symmetric_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _squared_distances(a, b):
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)


def _reach(x, neighbours):
    """Squared distance from each example to the `neighbours`-th nearest other one."""
    return np.concatenate(
        [
            np.partition(_squared_distances(x[start : start + ROWS], x), neighbours, axis=1)[:, neighbours]
            for start in range(0, len(x), ROWS)
        ]
    )
