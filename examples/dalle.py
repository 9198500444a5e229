"""Train a tiny DALL-E on drawn shapes and their captions, then ask for some: python examples/dalle.py [epochs]."""

import sys

import keras
import numpy as np
from PIL import Image

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 250
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (240, 200, 40)}
SHAPES = ("square", "circle", "cross")
SIZE = 16


def draw(colour, shape, rng):
    """Draw a shape of some size somewhere near the middle of a white image."""
    row, column = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5 - rng.integers(-1, 2, (2, 1, 1))
    radius = rng.integers(4, 6)
    inside = {
        "square": np.maximum(abs(row), abs(column)) < radius,
        "circle": np.hypot(row, column) < radius + 0.5,
        "cross": (np.minimum(abs(row), abs(column)) < 1.5) & (np.maximum(abs(row), abs(column)) < radius + 1),
    }[shape]
    return np.where(inside[..., None], COLOURS[colour], 255).astype("uint8")


keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
captions = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES] * 32
images = np.stack([draw(*caption.split(), rng) for caption in captions])  # (384, 16, 16, 3)
tokenizer = recipes.data.Tokenizer.train(captions)
ids = tokenizer.encode(captions)

model = recipes.dalle(
    (SIZE, SIZE, 3),
    variant="tiny",
    vocabulary_size=tokenizer.vocabulary_size,
    max_length=ids.shape[1],
    first_stage=0.5,
    learning_rate=5e-3,
)
recipes.fit(model, (ids, images), epochs=epochs, batch_size=32, verbose=2)

asked = captions[:12]
drawn = recipes.generate(model, tokenizer.encode(asked), temperature=0.5, seed=0)  # (12, 16, 16, 3)
middle = drawn[:, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean(axis=(1, 2))
near = [list(COLOURS)[np.abs(np.array(list(COLOURS.values())) - pixel).sum(axis=1).argmin()] for pixel in middle]
for caption, colour, pixel in zip(asked, near, middle, strict=True):
    print(f"{caption:14s} drawn in {colour} {pixel.astype(int)}")
grid = drawn.reshape(4, 3, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4).reshape(4 * SIZE, 3 * SIZE, 3)
Image.fromarray(grid.astype("uint8")).resize((3 * SIZE * 6, 4 * SIZE * 6), 0).save("shapes.png")
