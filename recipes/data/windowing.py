"""Windows of time series for forecasts, split in time, and the forecast that everything must beat."""

import numpy as np

from recipes.data.loading import Data, Info


def windows(
    series,
    window,
    horizon,
    *,
    targets=None,
    covariates=None,
    future=None,
    stride=1,
    validation=0.1,
    test=0.2,
):
    """Cut time series into windows of the past and the steps that follow each, to train `recipes.lstm_forecast`.

    The split is in time: the last steps are the test part, those before it the validation part. A window belongs to the
    part that all of its targets lie in, and a window whose targets lie in two is left out, so no target is ever seen twice.
    Windows of a later part may begin in an earlier one: that is the past.

    Args:
        series: Array `(steps,)` or `(steps, series)` of numbers, in order and equally far apart.
        window: Number of steps to look back.
        horizon: Number of steps to forecast.
        targets: Numbers of the columns of `series` to forecast; `None` for all. The others tell of the past only.
        covariates: Array `(steps, columns)` of what else is known of the past, such as the weather; or `None`.
        future: Array `(steps, columns)` of what is known of the steps to come as well, such as the day of the week; or
            `None`.
        stride: Steps from the beginning of a window to that of the next.
        validation: Share of the steps to choose by, in [0, 1), or their number as an integer; 0 for none.
        test: Share of the steps to measure with, or their number; 0 for none.

    Returns:
        `Data(train, validation, test, info)`. Each part is `(x, y)`: `x` float32 `(windows, window, columns)`, the targets
        first, then other series, `covariates`, and `future` as it was; `y` float32 `(windows, horizon)`, with several
        targets `(windows, horizon, targets)`. With `future`, `x` is the dict `{"past": that, "future": (windows, horizon,
        columns)}`. Parts without windows are `None`.

    Raises:
        ValueError: If the arrays differ in length or hold what is not finite, or too few steps are left to learn from.

    Example:

    >>> data = windows(np.arange(20.0), 4, 2, validation=0, test=5)
    >>> x, y = data.train
    >>> x.shape, y[0].tolist(), data.test[1].tolist()
    ((10, 4, 1), [4.0, 5.0], [[15.0, 16.0], [16.0, 17.0], [17.0, 18.0], [18.0, 19.0]])
    """
    for name, value in (("window", window), ("horizon", horizon), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a whole number, at least 1. Received: {name}={value!r}")
    series = _columns("series", series)
    steps, count = series.shape
    wanted = list(range(count)) if targets is None else [int(t) for t in targets]
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= t < count for t in wanted):
        raise ValueError(f"targets must be different columns of series, 0..{count - 1}. Received: targets={targets!r}")
    parts = [series[:, wanted], series[:, [i for i in range(count) if i not in wanted]]]
    for name, array in (("covariates", covariates), ("future", future)):
        parts.append(_columns(name, array, steps) if array is not None else np.zeros((steps, 0), "float32"))
    past, known = np.concatenate(parts, axis=1), parts[3]
    held = [_steps_of(name, value, steps) for name, value in (("validation", validation), ("test", test))]
    ends = np.cumsum([steps - sum(held), *held])
    found = []
    for name, begin, end in zip(("train", "validation", "test"), [0, *ends], ends, strict=False):
        starts = np.arange(max(begin, window), end - horizon + 1, stride)  # of the targets
        if not len(starts) and (name == "train" or end > begin):
            raise ValueError(
                f"{name}: no window of {window} steps with {horizon} to follow fits into the steps {begin}..{end - 1}. "
                "Pass a shorter window or horizon, a longer series, or other shares."
            )
        back, ahead = starts[:, None] + np.arange(-window, 0), starts[:, None] + np.arange(horizon)
        y = past[ahead][..., : len(wanted)]
        x = past[back]
        x = x if future is None else {"past": x, "future": known[ahead]}
        found.append((x, y[..., 0] if len(wanted) == 1 else y) if len(starts) else None)
    info = Info("windows", "regress", int(horizon), (int(window), past.shape[1]))
    return Data(*found, info)


def seasonal_naive(x, horizon, season, *, targets=1):
    """Forecast that each step is what it was a season before: what a forecaster has to beat.

    Args:
        x: Windows as `windows` makes them: `(windows, window, columns)`, or a dict with these as `"past"`.
        horizon: Number of steps to forecast. One longer than a season repeats it.
        season: Steps that a season has, at most the length of a window; 1 for the last value.
        targets: Number of the first columns to forecast.

    Returns:
        Array `(windows, horizon)`, with several targets `(windows, horizon, targets)`.

    Raises:
        ValueError: If a window is shorter than a season.

    Example:

    >>> seasonal_naive(np.arange(8.0).reshape(2, 4, 1), 3, season=2).tolist()
    [[2.0, 3.0, 2.0], [6.0, 7.0, 6.0]]
    """
    past = np.asarray(x["past"] if isinstance(x, dict) else x)
    if not 1 <= season <= past.shape[1]:
        raise ValueError(f"season must be 1 to the length of a window, {past.shape[1]}. Received: season={season!r}")
    places = past.shape[1] - season + np.arange(horizon) % season
    found = past[:, places, :targets]
    return found[..., 0] if targets == 1 else found


def _columns(name, array, steps=None):
    array = np.asarray(array)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "biuf" or (steps is not None and len(array) != steps):
        length = "steps" if steps is None else steps
        raise ValueError(f"{name} must be numbers ({length}, columns). Received: {array.dtype} {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype("float32")
    if not np.isfinite(array).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} must be finite: fill gaps first, for example with the value before. "
            f"Received: {name}[{row}, {column}] = {array[row, column]}"
        )
    return array


def _steps_of(name, value, steps):
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not isinstance(value, (int, float, np.number)) or not 0 <= value < (steps if whole else 1):
        raise ValueError(f"{name} must be a share in [0, 1) or a number of the {steps} steps. Received: {name}={value!r}")
    return int(value) if whole else round(value * steps)
