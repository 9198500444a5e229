"""Train a character GPT on the texts about scikit-learn's data sets, and let it write: python examples/gpt.py [epochs]."""

import sys

import numpy as np
from sklearn import datasets

import recipes

text = "".join(getattr(datasets, f"load_{name}")().DESCR for name in ("iris", "wine", "diabetes", "breast_cancer", "digits"))
characters = sorted(set(text))
ids = np.array([characters.index(c) + 1 for c in text], "int32")  # 0 is padding

length = 64
rows = ids[: len(ids) // length * length].reshape(-1, length)
test, train = rows[::20], np.delete(rows, np.s_[::20], axis=0)

model = recipes.gpt(vocabulary_size=len(characters) + 1, max_length=128, width=64, depth=2)
recipes.fit(model, train, batch_size=16, epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 10, verbose=2)
found = recipes.evaluate(model, test)
print(f"{found['loss'] / np.log(2):.2f} bits a character, {found['accuracy']:.0%} guessed")

prompts = ["The data set ", "Number of "]
new = recipes.generate(
    model, [[characters.index(c) + 1 for c in prompt] for prompt in prompts], max_new_tokens=100, temperature=0.8, top_k=20
)
for prompt, tokens in zip(prompts, new, strict=True):
    print("---", prompt + "".join(characters[token - 1] for token in tokens), sep="\n")
