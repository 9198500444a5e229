"""Windows of time series: what is in them, that no part sees the targets of another, and the forecast to beat."""

import numpy as np
import pytest

import recipes
from recipes.data import seasonal_naive, windows

STEPS = np.arange(30)


def test_what_is_in_a_window():
    series = np.stack([STEPS, 100 + STEPS], axis=1)
    data = windows(series, 4, 2, targets=[1], covariates=-STEPS, future=STEPS % 7, validation=0, test=0)
    x, y = data.train
    assert data.validation is None and data.test is None
    assert x["past"].shape == (25, 4, 4) and x["future"].shape == (25, 2, 1) and y.shape == (25, 2)
    assert data.info.input_shape == (4, 4) and data.info.num_classes == 2 and data.info.task == "regress"
    # window 5 looks at the steps 5..8 and forecasts 9 and 10
    assert x["past"][5].tolist() == [[100 + t, t, -t, t % 7] for t in (5, 6, 7, 8)]
    assert x["future"][5].tolist() == [[9 % 7], [10 % 7]] and y[5].tolist() == [109, 110]
    assert {a.dtype for a in (*x.values(), y)} == {np.dtype("float32")}


@pytest.mark.parametrize("validation, test", [(0.2, 0.3), (6, 9)])
def test_no_target_is_seen_twice(validation, test):
    data = windows(STEPS, 5, 3, validation=validation, test=test)
    targets = [set(y.ravel().astype(int)) for _, y in (data.train, data.validation, data.test)]
    assert targets == [set(range(5, 15)), set(range(15, 21)), set(range(21, 30))]
    for x, y in (data.train, data.validation, data.test):  # the past, and nothing but the past
        assert (x[:, -1, 0] + 1 == y[:, 0]).all()
    assert data.test[0][0, :, 0].tolist() == [16, 17, 18, 19, 20]  # looks back into the validation part


def test_several_targets_and_strides():
    x, y = windows(
        np.stack([STEPS, STEPS * 2, STEPS * 3], axis=1), 4, 2, targets=(2, 0), stride=3, test=0, validation=0
    ).train
    assert x[:, 0, 0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72] and y.shape == (9, 2, 2)
    assert x[0, 0].tolist() == [0, 0, 0] and x[0, 1].tolist() == [3, 1, 2]  # targets first
    assert y[0].tolist() == [[12, 4], [15, 5]]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"window": 0}, "window must be"),
        ({"horizon": 1.5}, "horizon must be"),
        ({"stride": True}, "stride must be"),
        ({"series": np.zeros((30, 2, 2))}, "series must be numbers"),
        ({"series": np.where(STEPS == 7, np.nan, STEPS)}, r"series must be finite.*series\[7, 0\] = nan"),
        ({"covariates": np.zeros(29)}, r"covariates must be numbers \(30, columns\)"),
        ({"future": np.full(30, "a")}, "future must be numbers"),
        ({"targets": [1]}, "targets must be different columns of series, 0..0"),
        ({"targets": []}, "targets must be"),
        ({"test": 1.0}, "test must be a share"),
        ({"validation": 31}, "validation must be a share"),
        ({"window": 28}, "train: no window of 28 steps"),
        ({"test": 2, "horizon": 3}, "test: no window of 5 steps with 3 to follow fits into the steps 28..29"),
    ],
)
def test_bad_arguments(changes, words):
    arguments = {"series": STEPS, "window": 5, "horizon": 3, "validation": 0, "test": 0, **changes}
    with pytest.raises(ValueError, match=words):
        windows(**arguments)


def test_seasonal_naive():
    data = windows(np.stack([STEPS % 7, STEPS % 5], axis=1), 14, 9, test=0, validation=0)
    x, y = data.train
    found = seasonal_naive(x, 9, 7, targets=2)
    assert found.shape == y.shape and np.array_equal(found[..., 0], y[..., 0])  # it repeats every 7 steps
    assert not np.array_equal(found[..., 1], y[..., 1])
    assert np.array_equal(seasonal_naive({"past": x}, 9, 1), np.repeat(x[:, -1:, 0], 9, axis=1))
    with pytest.raises(ValueError, match="season must be 1 to the length of a window, 14"):
        seasonal_naive(x, 9, 15)


def test_windows_train_a_forecaster():
    """A sum of a weekly pattern and a known effect is learned; the naive forecast is reported beside it."""
    random = np.random.default_rng(0)
    steps = np.arange(260)
    free = (random.random(260) < 0.15).astype("float32")
    series = 50 + 5 * np.sin(2 * np.pi * steps / 7) - 8 * free + random.normal(size=260) * 0.3
    data = windows(series, 14, 3, future=free, validation=30, test=40)
    model = recipes.lstm_forecast((14, 2), 3, future=1, season=7, units=8, hidden=32, learning_rate=1e-2)
    recipes.fit(model, data, epochs=12, batch_size=16, verbose=0)
    found = recipes.evaluate(model, data)
    assert found["naive_mae"] > 1.5 and found["mae"] < 0.5 * found["naive_mae"]
