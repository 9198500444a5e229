"""Read digits line by line with an LSTM, and learn to write like the manual of Python.

python examples/lstm.py [epochs]
"""

import re
import sys
from pydoc_data.topics import topics

import keras
import numpy as np

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
keras.utils.set_random_seed(0)

# An image (8, 8, 1) is a series of 8 steps with 8 channels, without padding
data = recipes.data.load("digits")
parts = [(x[..., 0].astype("float32"), y) for x, y in (data.train, data.validation, data.test)]
model = recipes.lstm((8, 8), 10, units=32, padding_value=None)
recipes.fit(model, parts[0], validation=parts[1], epochs=epochs, verbose=0)
print(f"digits line by line: accuracy {recipes.evaluate(model, parts[2])['accuracy']:.3f}")

# A language model learns from ids alone; 0 is padding
text = re.sub(r"\s+", " ", " ".join(topics[name] for name in sorted(topics)))[:60_000]
characters = sorted(set(text))
ids = np.array([1 + characters.index(c) for c in text], "int32")
pieces = ids[: len(ids) // 64 * 64].reshape(-1, 64)
kept = len(pieces) * 9 // 10
writer = recipes.lstm_lm(vocabulary_size=len(characters) + 1, width=32, units=128, learning_rate=1e-2)
recipes.fit(writer, pieces[:kept], epochs=epochs, batch_size=32, verbose=0)
bits = writer.evaluate(pieces[kept:], verbose=0)[0] / np.log(2)
print(f"next character: {bits:.2f} bits, of {np.log2(len(characters)):.2f} if all were as likely")

begin = "The "
prompt = [1 + characters.index(c) for c in begin]
[written] = recipes.generate(writer, [prompt], max_new_tokens=60, temperature=0.5, seed=0)
print(begin + "".join(characters[i - 1] for i in written))
