"""Make handwritten digits of noise, each the one asked for: a classifier recognises nearly all.

python examples/diffusion.py [epochs]
"""

import sys

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

import recipes
from recipes.callbacks import save_grid

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
keras.utils.set_random_seed(0)

data = recipes.data.load("digits")  # images (8, 8, 1) of 0..255
x, y = data.train
model = recipes.diffusion((8, 8, 1), 10, width=32)
history = recipes.fit(model, (x, y), epochs=epochs, batch_size=64, verbose=0)
print(f"loss {history.history['loss'][-1]:.3f}")  # 1 is what a network gets that has learned nothing

# A classifier of real digits says how many samples are the digit that was asked for; guidance makes them clearer
judge = LogisticRegression(max_iter=1000).fit(x.reshape(len(x), -1) / 255, y)
labels = np.arange(100) % 10
samples = model.sample(100, labels=labels, guidance=2.0, seed=0, batch_size=100)
right = np.mean(judge.predict(samples.reshape(100, -1) / 255) == labels)
print(f"{right:.0%} of the samples are recognised as their digit")
save_grid(samples[:40], "digits.png", scale=4, columns=10)
