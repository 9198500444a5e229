"""How well a model of tokens guesses: the measures of `recipes.evaluate` for it."""

import numpy as np

from recipes.data.masking import mask_tokens
from recipes.training.language import own_targets
from recipes.training.recipe import get_recipe

LARGEST = 2**27  # numbers put out at a time: half a gigabyte


def evaluate_tokens(model, x, y=None, batch_size=256):
    """Measure a model that puts out logits `(batch, length, ids)`, over all tokens that count.

    Args:
        model: Language model, or classifier of tokens, of a builder.
        x: Array of ids, or dict of them, checked.
        y: Targets; `None` for a language model: its own ids, of which one that guesses hidden tokens has some hidden, the
            same every time.
        batch_size: Examples a step, at most.

    Returns:
        Dict of floats: `loss`, the mean cross-entropy of a token, and `accuracy`; of a language model also `perplexity`,
        `exp(loss)`.
    """
    settings = get_recipe(model)["training"]
    language, mask = settings["task"] == "language_model", settings.get("mask")
    if y is None:
        y = own_targets(x)
        if mask is not None:
            x, y = mask_tokens(x, y, np.random.default_rng(0), **mask)
    shift = 1 if language and mask is None else 0
    batch_size = max(1, min(batch_size, LARGEST // (y.shape[1] * model.output_shape[-1])))
    total = right = count = 0
    for start in range(0, len(y), batch_size):
        rows = slice(start, start + batch_size)
        part = {key: value[rows] for key, value in x.items()} if isinstance(x, dict) else x[rows]
        logits, targets = np.asarray(model.predict_on_batch(part), "float32"), np.asarray(y[rows])
        logits, targets = logits[:, : targets.shape[1] - shift], targets[:, shift:]
        counts = targets >= 0 if settings.get("padding_id") is None else (targets >= 0) & (targets != settings["padding_id"])
        logits, targets = logits[counts], targets[counts].astype("int64")  # (tokens, ids), (tokens,)
        logits = logits - logits.max(axis=-1, keepdims=True)
        loss = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(targets)), targets]
        total += float(loss.sum(dtype="float64"))
        right += int((logits.argmax(axis=-1) == targets).sum())
        count += len(targets)
    if not count:
        raise ValueError("data must have a token to predict: every target is padding, or no row has a second token.")
    result = {"loss": total / count, "perplexity": float(np.exp(total / count)), "accuracy": right / count}
    return result if language else {key: result[key] for key in ("loss", "accuracy")}
