"""Pairs of token ids that an encoder-decoder learns in seconds: what to write is the source from its end."""

import numpy as np

START, END, LETTERS, LONGEST = 1, 2, 6, 5
VOCABULARY = 3 + LETTERS


def reversals(n, seed):
    """Return `{"source", "target"}` of `n` words of up to 5 letters."""
    random = np.random.default_rng(seed)
    source, target = np.zeros((n, LONGEST), "int32"), np.zeros((n, LONGEST + 2), "int32")
    for i, length in enumerate(random.integers(1, LONGEST + 1, n)):
        word = random.integers(3, VOCABULARY, length)
        source[i, :length] = word
        target[i, : length + 2] = [START, *word[::-1], END]
    return {"source": source, "target": target}


def answers(pairs):
    """Return what should be written, a list of lists."""
    return [row[row > END].tolist() for row in pairs["target"]]


def score(model, sources, texts, power=1.0):
    """Return the logarithms of the probabilities of texts, end included, over their lengths to a power."""
    target = np.zeros((len(texts), max(map(len, texts)) + 2), "int32")
    for row, text in zip(target, texts, strict=True):
        row[: len(text) + 2] = [START, *text, END]
    logits = model.predict({"source": sources, "target": target}, verbose=0)[:, :-1]
    logits[..., 0] = -np.inf  # padding is never written
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(logarithms, target[:, 1:, None], axis=-1)[..., 0]
    real = target[:, 1:] != 0
    return np.where(real, chosen, 0).sum(axis=1) / real.sum(axis=1) ** power


def without_cache(model, source, most):
    """Return the likeliest tokens one by one, each from the whole model: what greedy decoding should write."""
    text = []
    while len(text) < most:
        target = np.array([[START, *text] + [0] * (most - len(text))])
        logits = np.array(model({"source": source[None], "target": target}))[0, len(text)]
        token = int(logits[1:].argmax()) + 1
        if token == END:
            break
        text.append(token)
    return text
