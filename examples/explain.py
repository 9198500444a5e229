"""Show where a network looks: attention and Grad-CAM on digits beside noise. Only the digit's half should count.

python examples/explain.py [epochs]
"""

import sys

import keras
import numpy as np

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3

keras.utils.set_random_seed(0)
data = recipes.data.load("digits")
random = np.random.default_rng(0)


def beside_noise(part):
    """Put noise at the right of each digit: images (8, 16, 1)."""
    x, y = part
    return np.concatenate([x, random.integers(0, 100, x.shape, "uint8")], axis=2), y


train, validation, test = map(beside_noise, data[:3])
model = recipes.vit((8, 16, 1), 10, width=64, depth=2, patch_size=2)
recipes.fit(model, train, validation=validation, epochs=epochs, batch_size=32, augment=None, verbose=0)
print(f"accuracy {recipes.evaluate(model, test)['accuracy']:.3f}")

for method in ("attention", "grad_cam"):  # a convolutional network knows Grad-CAM only
    maps = recipes.explain(model, test[0][:100], method=method)  # (100, 8, 16) in [0, 1]
    print(f"{method}: {100 * maps[:, :, :8].sum() / maps.sum():.0f} % of the heat on the digit's half")
    for row, heat in zip(test[0][0, ..., 0], maps[0], strict=True):
        print("".join(" .:-=+*#%@"[v * 9 // 255] for v in row.tolist()), "".join(" .:-=+*#%@"[int(v * 9)] for v in heat))

tokens = recipes.features(model)(test[0][:1])  # what every block puts out, by name
print({name: tuple(array.shape) for name, array in tokens.items()})
