"""Save a trained model, load it back and ask it for class names and probabilities.

python examples/save_and_predict.py
"""

import tempfile

import keras

import recipes

keras.utils.set_random_seed(0)
data = recipes.data.load("wine")
model = recipes.mlp(data.info.input_shape, data.info.num_classes)
recipes.fit(model, data, epochs=20, verbose=0)

with tempfile.TemporaryDirectory() as folder:
    recipes.save(model, f"{folder}/wine")  # recipe.json and model.weights.h5: numbers and names, nothing that runs
    again = recipes.load_model(f"{folder}/wine")

x, y = data.test
predictions = recipes.predict(again, x[:3])
for best, truth in zip(predictions.top(2), y, strict=False):
    print(", ".join(f"{name} {probability:.2f}" for name, probability in best), "| truth:", data.info.class_names[truth])
