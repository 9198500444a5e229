"""Draw handwritten digits by two networks that learn against each other, and stop if one of them has won.

python examples/gan.py [epochs]
"""

import sys

import keras
import numpy as np

import recipes
from recipes.callbacks import CollapseMonitor, save_grid

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
keras.utils.set_random_seed(0)

x, y = recipes.data.load("digits").train  # images (8, 8, 1) of 0..255

# R3GAN with classes: the most stable loss, and samples can be asked for by name
model = recipes.gan((8, 8, 1), 10, variant="r3gan", width=16, learning_rate=1e-3)
monitor = CollapseMonitor((x, y))
history = recipes.fit(model, (x, y), epochs=epochs, batch_size=64, callbacks=[monitor], verbose=0)
print(f"stopped: {monitor.reason}" if monitor.reason else "neither network has won")
print(f"samples vary {history.history['variety'][-1]:.2f} times as much as the data")
save_grid(model.sample(40, seed=0), "digits.png", scale=4)  # the classes in turn

# Samples of a class are nearer to the mean of that class than to most others
samples = model.sample(100, labels=np.repeat(np.arange(10), 10), seed=1).reshape(100, -1)
means = np.stack([x[y == label].reshape(-1, 64).mean(axis=0) for label in range(10)])
distances = np.linalg.norm(samples[:, None] - means[None], axis=2)  # (100, 10)
print(f"nearest to their own class: {np.mean(distances.argmin(axis=1) == np.repeat(np.arange(10), 10)):.0%}")
