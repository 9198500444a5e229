"""Learn what handwritten digits look like: draw new ones, walk from one to another, and find what is no digit.

python examples/vae.py [epochs]
"""

import sys

import keras
import numpy as np

import recipes
from recipes.callbacks import save_grid

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
keras.utils.set_random_seed(0)

data = recipes.data.load("digits")  # images (8, 8, 1) of 0..255
x, y = data.train

# With classes, samples can be asked for by name
model = recipes.vae((8, 8, 1), 10, latent=8)
history = recipes.fit(model, (x, y), epochs=epochs, verbose=0)
print(f"bound {history.history['loss'][-1]:.1f} nats, of which {history.history['kl'][-1]:.1f} for the code")
save_grid(model.sample(40, seed=0), "digits.png", scale=4)  # the classes in turn
threes = x[y == 3]
between = model.interpolate(threes[:4], threes[4:8], labels=np.full(4, 3), steps=8)  # (4, 8, 8, 8, 1)
save_grid(between.reshape(-1, 8, 8, 1), "threes.png", columns=8, scale=4)

# An autoencoder gives back badly what it was not trained on
plain = recipes.autoencoder((8, 8, 1), latent=8, noise=0.2)
recipes.fit(plain, x, epochs=epochs, verbose=0)
test, shuffled = data.test[0], np.random.default_rng(0).permuted(data.test[0], axis=1)
scores, others = plain.anomaly_scores(test), plain.anomaly_scores(shuffled)
print(f"shuffled rows have a higher score than digits in {np.mean(scores[:, None] < others[None]):.1%} of pairs")
