"""Train a tiny CLIP on digits and captions, then tell the digits of the test set by their captions alone.

python examples/clip.py [epochs]
"""

import sys

import keras
import numpy as np

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
NAMES = "zero one two three four five six seven eight nine".split()
END, LENGTH = 256, 12


def tokenize(text):
    """Bytes as ids, then the id that ends a text, which must be the highest, then anything."""
    ids = [*text.encode(), END]
    return np.array(ids + [0] * (LENGTH - len(ids)), "int32")


keras.utils.set_random_seed(0)
data = recipes.data.load("digits")  # images (8, 8, 1) of 0..255
captions = np.stack([tokenize(f"digit {name}") for name in NAMES])  # (10, 12)
(images, digits), (held, held_digits) = data.train, data.test

model = recipes.clip(
    (8, 8, 1), patch_size=2, width=64, depth=2, vocabulary_size=END + 1, max_length=LENGTH, learning_rate=3e-3
)
pairs = {"image": images, "text": captions[digits]}
recipes.fit(model, (pairs, digits), epochs=epochs, batch_size=32, verbose=2)  # the same digit twice in a batch is alike

# Each image against each caption: no head, and the classes may be words that came later
image_vectors = recipes.features(model, "image_embedding").predict(held, verbose=0)  # (images, 64), of length 1
text_vectors = recipes.features(model, "text_embedding").predict(captions, verbose=0)  # (10, 64)
found = (image_vectors @ text_vectors.T).argmax(axis=1)
print(f"zero-shot accuracy on {len(held)} test images: {(found == held_digits).mean():.3f}")
for i in range(3):
    print(f"image of a {NAMES[held_digits[i]]}: digit {NAMES[found[i]]}")
