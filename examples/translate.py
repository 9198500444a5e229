"""Translate English number words into digits with an encoder-decoder: python examples/translate.py [epochs] [family].

The family is seq2seq, an LSTM with attention, or transformer.
"""

import sys

import keras
import numpy as np

import recipes

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
family = sys.argv[2] if len(sys.argv) > 2 else "seq2seq"
SMALL = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen".split()
SMALL += ["eighteen", "nineteen"]
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORDS = ["<padding>", "hundred", "thousand", *SMALL, *TENS]
SYMBOLS = ["<padding>", "<start>", "<end>", *"0123456789"]


def words(number):
    for value, name in ((1000, "thousand"), (100, "hundred")):
        if number >= value:
            return [*words(number // value), name, *words(number % value)]
    if number < 20:
        return [SMALL[number - 1]] if number else []
    return [TENS[number // 10 - 2], *words(number % 10)]


def pad(rows):
    found = np.zeros((len(rows), max(map(len, rows))), "int32")
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return found


keras.utils.set_random_seed(0)
numbers = np.random.default_rng(0).permutation(np.arange(1, 10_000))[:2500].tolist()
source = pad([[WORDS.index(word) for word in words(number)] for number in numbers])
target = pad([[1, *(SYMBOLS.index(digit) for digit in str(number)), 2] for number in numbers])
train, test = ({"source": source[part], "target": target[part]} for part in (slice(200, None), slice(200)))

sizes = {"vocabulary_size": len(WORDS), "target_vocabulary_size": len(SYMBOLS), "width": 64}
model = getattr(recipes, family)(**sizes)
recipes.fit(model, train, validation=test, epochs=epochs, batch_size=32, verbose=2)

found = recipes.generate(model, test["source"], max_new_tokens=6, beams=3)
found = ["".join(SYMBOLS[token] for token in tokens) for tokens in found]
right = [text == str(number) for text, number in zip(found, numbers[:200], strict=True)]
print(f"{np.mean(right):.0%} of 200 numbers that it has not seen are right")
for text, number in list(zip(found, numbers, strict=False))[:4]:
    print(f"{' '.join(words(number))}: {text}")
