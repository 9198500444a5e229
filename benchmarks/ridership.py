"""Forecast a week of a Chicago station's passengers with `recipes.lstm_forecast`, beside the same day of last week.

    python benchmarks/ridership.py --data ../shared/data/chicago.csv.gz

The last 730 days are the test; every window of seven days within them counts, and the error is the mean over all steps of
all windows. Nothing of these days is seen in training. Known of the days to come: the day of the week, the holidays of
the United States, the place in the year. With `--choose` the last 730 days are left out altogether, and the 730 before
them are forecast: what settings were chosen by.

`last_week` is the forecast that each day is as a week before, `weekday_median` the median of the same weekday in the whole
window. Rows already in benchmarks/results/ridership.csv are not run again.
"""

import argparse
import csv
import datetime
import gzip
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rows import RESULTS, append, facts, read

import recipes

PATH = RESULTS / "ridership.csv"
SETTING = ["part", "window", "horizon", "epochs"]
SYSTEMS = ("last_week", "weekday_median", "lstm_forecast")
HELD = 730  # days


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="chicago.csv.gz: a column `ridership` and a column `date`")
    parser.add_argument("--choose", action="store_true", help="forecast the days before the test instead")
    parser.add_argument("--window", type=int, default=56)
    parser.add_argument("--horizon", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    setting = {key: str(getattr(arguments, key)) for key in SETTING[1:]}
    setting["part"] = "validation" if arguments.choose else "test"
    ridership, days = read_days(arguments.data)
    if arguments.choose:
        ridership, days = ridership[:-HELD], days[:-HELD]
    data = recipes.data.windows(
        ridership, arguments.window, arguments.horizon, future=calendar(days), validation=0, test=HELD
    )
    rows = read(PATH)
    done = {key_of(row) for row in rows}
    for system in SYSTEMS:
        for seed in range(arguments.seeds if system == "lstm_forecast" else 1):
            row = {**setting, "system": system, "seed": str(seed)}
            if key_of(row) not in done:
                start = time.perf_counter()
                errors = np.abs(forecast(system, seed, data, arguments) - data.test[1])  # (windows, horizon)
                seconds, days = time.perf_counter() - start, errors.mean(axis=0)
                found = {"mae": days.mean(), "mae_first_day": days[0], "mae_last_day": days[-1]}
                row |= {**{name: f"{value:.4f}" for name, value in found.items()}, "seconds": f"{seconds:.1f}"}
                rows.append(append(PATH, {**row, **facts()}))
                print(f"{system:16s} seed {seed}: {errors.mean():.3f}", flush=True)
    show([row for row in rows if all(row[key] == setting[key] for key in SETTING)])


def forecast(system, seed, data, arguments):
    """Return the forecasts of a system for the test windows, `(windows, horizon)`."""
    x, horizon = data.test[0], arguments.horizon
    if system == "last_week":
        return recipes.data.seasonal_naive(x, horizon, 7)
    if system == "weekday_median":
        weeks = x["past"][:, x["past"].shape[1] % 7 :, 0].reshape(len(x["past"]), -1, 7)
        return np.median(weeks, axis=1)[:, np.arange(horizon) % 7]
    keras.utils.set_random_seed(seed)
    future = x["future"].shape[-1]
    model = recipes.lstm_forecast(data.info.input_shape, horizon, future=future, season=7)
    recipes.fit(model, data.train, epochs=arguments.epochs, seed=seed, verbose=0)
    return model.predict(x, verbose=0)


def read_days(path):
    """Return the passengers of each day in thousands, and the days."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    first = datetime.date(1970, 1, 1)
    days = [first + datetime.timedelta(days=int(float(row["date"]))) for row in rows]
    return np.array([float(row["ridership"]) for row in rows]), days


def calendar(days):
    """Return what is known of each day in advance: `(days, 11)`."""
    free = set().union(*(holidays(year) for year in {day.year for day in days}))
    angle = np.array([2 * np.pi * day.timetuple().tm_yday / 365.25 for day in days])
    turn = [(day.month, day.day) >= (12, 23) or (day.month, day.day) <= (1, 2) for day in days]
    week = np.eye(7)[[day.weekday() for day in days]]
    return np.c_[week, [day in free for day in days], turn, np.sin(angle), np.cos(angle)]


def holidays(year):
    """Return the days of a year on which offices in the United States are closed, and the eves that many take off."""

    def weekday(month, which, number):
        """The n-th such day of a month, Monday being 0."""
        first = datetime.date(year, month, 1)
        return first + datetime.timedelta(days=(which - first.weekday()) % 7 + 7 * (number - 1))

    one = datetime.timedelta(days=1)
    found = {datetime.date(year, *day) for day in ((1, 1), (7, 4), (11, 11), (12, 25))}
    found |= {day - one for day in found if day.weekday() == 5} | {day + one for day in found if day.weekday() == 6}
    found |= {weekday(1, 0, 3), weekday(2, 0, 3), weekday(9, 0, 1), weekday(10, 0, 2)}
    found.add(weekday(5, 0, 5) if weekday(5, 0, 5).month == 5 else weekday(5, 0, 4))
    thanksgiving = weekday(11, 3, 4)
    return found | {thanksgiving, thanksgiving + one, datetime.date(year, 12, 24), datetime.date(year, 12, 31)}


def key_of(row):
    return tuple(row[key] for key in [*SETTING, "system", "seed"])


def show(rows):
    print(f"\n{'system':16s} {'MAE':>7s} {'std':>7s} {'n':>2s} {'better than last_week':>22s} {'seconds':>8s}")
    naive = next(float(row["mae"]) for row in rows if row["system"] == "last_week")
    for system in SYSTEMS:
        group = [row for row in rows if row["system"] == system]
        values = [float(row["mae"]) for row in group]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        mean, seconds = statistics.mean(values), statistics.median(float(row["seconds"]) for row in group)
        print(f"{system:16s} {mean:7.3f} {spread:7.3f} {len(values):2d} {1 - mean / naive:22.1%} {seconds:8.1f}")
    print(f"\n{rows[-1]['made_with']}\n{rows[-1]['command']}")


if __name__ == "__main__":
    main()
