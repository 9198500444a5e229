"""Train a small ConvNeXt on scikit-learn's handwritten digits.

python examples/convnext.py [epochs]
"""

import sys

import keras

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3

keras.utils.set_random_seed(0)
data = recipes.data.load("digits")  # images (8, 8, 1) of 0..255
model = recipes.convnext(data.info.input_shape, data.info.num_classes, depths=(2, 2, 2), widths=(32, 64, 128))
recipes.fit(model, data, epochs=epochs, verbose=2)

for name, value in recipes.evaluate(model, data).items():
    print(f"{name:18s} {value:.4f}")

# Weights of timm, torchvision, transformers or the authors, a file or a folder, go in with
# recipes.convnext((224, 224, 3), 1000, variant="tiny", weights="convnext_tiny.safetensors")
