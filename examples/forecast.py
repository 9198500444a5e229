"""Forecast the visitors of two shops a week ahead, beside the same days of last week.

python examples/forecast.py [epochs]
"""

import sys

import keras
import numpy as np

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)

# Visitors of two shops for two years: a weekly rhythm, slow changes, days on which both are closed, and the weather
days = np.arange(730)
closed = random.random(730) < 0.04
weather = random.normal(size=730)
trend = random.normal(size=(730, 2)).cumsum(axis=0) * 3
week = np.array([[80, 90, 95, 100, 140, 180, 40], [60, 55, 50, 60, 70, 30, 20]]).T[days % 7]
visitors = (400 + trend + 2 * week + 10 * weather[:, None] + random.normal(size=(730, 2)) * 8) * ~closed[:, None]
calendar = np.c_[np.eye(7)[days % 7], closed]  # known in advance

data = recipes.data.windows(visitors, 28, 7, covariates=weather, future=calendar, validation=60, test=120)
model = recipes.lstm_forecast(data.info.input_shape, 7, targets=2, future=8, season=7, units=32, learning_rate=5e-3)
recipes.fit(model, data, epochs=epochs, batch_size=32, verbose=2)

found = recipes.evaluate(model, data)
print(f"mean absolute error a week ahead: {found['mae']:.1f}, last week again: {found['naive_mae']:.1f}")
x, y = data.test
first = {name: part[:1] for name, part in x.items()}
print("forecast", model.predict(first, verbose=0)[0, :, 0].round().tolist(), "\nwas     ", y[0, :, 0].round().tolist())
