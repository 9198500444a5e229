"""Masking of token ids, for language models that guess what is hidden."""

import numpy as np


def mask_tokens(x, y, rng, *, mask_id, vocabulary_size, special_ids=(), probability=0.15):
    """Hide tokens for a masked language model: of those chosen, 80 % become `mask_id`, 10 % any id, 10 % stay.

    Args:
        x: Ids `(batch, length)`.
        y: The same ids, the targets before masking.
        rng: A `numpy.random.Generator`.
        mask_id: Id of the token that hides another.
        vocabulary_size: Number of ids.
        special_ids: Ids that are never chosen and never put in, such as padding and separators.
        probability: Share of the tokens chosen, in (0, 1).

    Returns:
        `(x, y)`: masked ids, and targets that are -1 where none was chosen.

    Example:

    >>> import numpy as np
    >>> ids = np.full((2, 50), 7)
    >>> x, y = mask_tokens(ids, ids, np.random.default_rng(0), mask_id=3, vocabulary_size=20)
    >>> sorted(set(y.reshape(-1).tolist()))
    [-1, 7]

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1, task 1.
    """
    ids = np.asarray(x)
    chosen = (rng.random(ids.shape) < probability) & ~np.isin(ids, special_ids)
    lot = rng.random(ids.shape)
    usual = np.setdiff1d(np.arange(vocabulary_size), [mask_id, *special_ids])
    masked = np.where(chosen & (lot < 0.8), mask_id, ids)
    masked = np.where(chosen & (lot >= 0.9), rng.choice(usual, ids.shape), masked)
    return masked.astype(ids.dtype), np.where(chosen, y, -1).astype("int32")
