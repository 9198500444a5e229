"""Measures of samples against closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

import recipes
from recipes.generative import measures
from recipes.generative.measures import neighbourhood_measures

RANDOM = np.random.default_rng(0)
MODES = 10 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def exact(mean, covariance, examples=50):
    """Features that have this mean and this covariance exactly."""
    x = RANDOM.normal(size=(examples, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + x @ np.linalg.cholesky(covariance).T


def mixture(modes, each=40):
    return np.concatenate([RANDOM.normal(MODES[mode], 0.5, (each, 2)) for mode in modes])


def test_frechet_distance_of_gaussians():
    means, sizes = RANDOM.normal(size=(2, 4)), np.array([[1.0, 2, 3, 0.5], [2.0, 1, 0.1, 4]])
    found = recipes.frechet_distance(*(exact(m, np.diag(s**2)) for m, s in zip(means, sizes, strict=True)))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((sizes[0] - sizes[1]) ** 2)  # diagonal covariances commute
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute():
    roots = RANDOM.normal(size=(2, 5, 5))
    first, second = (root @ root.T for root in roots)
    found = recipes.frechet_distance(exact(np.zeros(5), first), exact(np.ones(5), second))
    np.testing.assert_allclose(found, 5 + np.trace(first + second - 2 * np.real(sqrtm(first @ second))), rtol=1e-6)


def test_frechet_distance_of_fewer_examples_than_features():
    few = RANDOM.normal(size=(6, 20))
    assert recipes.frechet_distance(few, few) < 1e-9
    np.testing.assert_allclose(recipes.frechet_distance(few, few + 2), 80, rtol=1e-6)


def test_identical_sets_are_perfect():
    x = RANDOM.normal(size=(300, 6)) + 1000
    found = recipes.generative_measures(x, x)
    assert found.pop("frechet_distance") < 1e-6
    assert found.pop("density") >= 1  # each lies in its own neighbourhood too
    assert found == {"precision": 1, "recall": 1, "coverage": 1}


def test_dropped_modes_lower_recall_and_not_precision():
    real = mixture(range(8))
    all_modes, half = (neighbourhood_measures(real, mixture(modes)) for modes in (range(8), range(0, 8, 2)))
    assert min(all_modes.values()) > 0.8
    assert half["precision"] > 0.8 and half["density"] > 0.8
    assert abs(half["recall"] - 0.5) < 0.1 and abs(half["coverage"] - 0.5) < 0.1


def test_invented_modes_lower_precision_and_not_recall():
    found = neighbourhood_measures(mixture(range(0, 8, 2)), mixture(range(8)))
    assert abs(found["precision"] - 0.5) < 0.1 and found["recall"] > 0.8
    assert abs(found["density"] - 0.5) < 0.15 and found["coverage"] > 0.8


def test_neighbourhoods_are_those_of_the_definitions(monkeypatch):
    monkeypatch.setattr(measures, "ROWS", 7)  # several blocks
    real, generated, k = RANDOM.normal(size=(30, 3)), RANDOM.normal(size=(20, 3)) + 0.5, 3
    reach = [np.sort(cdist(x, x), axis=1)[:, k] for x in (real, generated)]
    between = cdist(real, generated)
    within = between <= reach[0][:, None]
    assert neighbourhood_measures(real, generated, k) == pytest.approx(
        {
            "precision": within.any(axis=0).mean(),
            "recall": (between <= reach[1]).any(axis=1).mean(),
            "density": within.sum() / (k * 20),
            "coverage": within.any(axis=1).mean(),
        }
    )


def test_features_are_pluggable():
    images = RANDOM.integers(0, 256, (2, 40, 8, 8, 1)).astype("uint8")
    by_function = recipes.generative_measures(*images, features=lambda x: x.mean(axis=(2, 3)))
    by_hand = recipes.generative_measures(*images.mean(axis=(3, 4)))
    model = recipes.features(recipes.resnet((8, 8, 1), 3, depths=(1,), widths=(4,)), "features")
    assert by_function == by_hand
    assert recipes.generative_measures(*images, features=model).keys() == by_hand.keys()
    assert recipes.generative_measures(*images) == recipes.generative_measures(*images.reshape(2, 40, 64))


@pytest.mark.parametrize(
    "real, generated, neighbours, message",
    [
        (np.zeros((9, 2)), np.zeros((9, 3)), 5, "generated must have features of the same width"),
        (np.zeros((5, 2)), np.zeros((9, 2)), 5, "real must have at least 6 examples"),
        (np.zeros((9, 2)), np.full((9, 2), np.nan), 5, "generated must be finite. Received: 9 rows"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 0, "neighbours must be an integer >= 1"),
    ],
)
def test_bad_features_are_refused(real, generated, neighbours, message):
    with pytest.raises(ValueError, match=message):
        recipes.generative_measures(real, generated, neighbours=neighbours)


def test_features_that_are_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"real must have features of shape \(examples, width\)"):
        recipes.frechet_distance(np.zeros((9, 2, 2)), np.zeros((9, 2, 2)))
