"""Train a compact vision transformer on scikit-learn's handwritten digits: 93 % of the test set after 12 epochs.

python examples/vit.py [epochs]
"""

import sys

import keras

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3

keras.utils.set_random_seed(0)
data = recipes.data.load("digits")  # images (8, 8, 1) of 0..255
model = recipes.vit(data.info.input_shape, data.info.num_classes, patch_size=2, width=64, depth=3)
recipes.fit(model, data, epochs=epochs, verbose=2)

for name, value in recipes.evaluate(model, data).items():
    print(f"{name:18s} {value:.4f}")
