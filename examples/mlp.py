"""Predict the progression of diabetes from ten measurements, beside scikit-learn's gradient boosting.

python examples/mlp.py
"""

import keras
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error

import recipes

keras.utils.set_random_seed(0)
data = recipes.data.load("diabetes")
model = recipes.mlp(data.info.input_shape, 1, task="regress")
# standardises inputs and targets from the training part
recipes.fit(model, data, epochs=40, early_stopping=10, verbose=0)

trees = HistGradientBoostingRegressor(random_state=0).fit(*data.train)
x, y = data.test
errors = recipes.evaluate(model, data)["mae"], mean_absolute_error(y, trees.predict(x))
print(f"mean absolute error: mlp {errors[0]:.1f}, trees {errors[1]:.1f}")
