"""Batches of texts of like length, without the padding that all texts of a batch have."""

import numpy as np

from recipes.data.batches import Batches
from recipes.data.splitting import leaves

# Batches whose texts are sorted together: more would leave less to chance, fewer more padding. Of few texts a quarter, or
# the same would meet in every epoch.
WINDOW = 50
MULTIPLE = 8  # tokens: of so many lengths fewer are compiled, and matrices fit the hardware better


class GroupedBatches(Batches):
    """Serves token ids so that texts of like length share a batch, which ends where its longest text does.

    As in `Batches` the order is a pure function of `(seed, epoch)`: the texts are shuffled, those of every 50 batches, or of
    each quarter if they are few, sorted by length, and the batches shuffled again. A model that does not see padding
    computes the same of a text, in less time.

    Args:
        x: Ids `(examples, length)`, padded on the right, or a dict of such arrays, each cut by itself.
        y: Targets, one row an example, or `None`.
        batch_size: Examples a batch.
        padding_id: Id that fills rows up.
        token_targets: Whether `y` has a column for each token: of `x`, or in a dict of `x["target"]`; it is cut alike.
        **settings: Of `Batches`.

    Raises:
        ValueError: If `x` is not ids, or an argument is out of its range.

    Example:

    >>> ids = np.array([[5, 0, 0, 0, 0, 0, 0, 0, 0], [6, 7, 0, 0, 0, 0, 0, 0, 0]])
    >>> batches = GroupedBatches(ids, np.arange(2), 2, padding_id=0)
    >>> batches[0][0].shape
    (2, 8)
    """

    def __init__(self, x, y, batch_size, *, padding_id, token_targets=False, **settings):
        super().__init__(x, y, batch_size, **settings)
        if any(ids.ndim != 2 or ids.dtype.kind not in "iu" for ids in leaves(self.x)):
            shapes = [(ids.shape, str(ids.dtype)) for ids in leaves(self.x)]
            raise ValueError(f"x must be ids (examples, length), integers, to be grouped by length. Received: {shapes}")
        self.padding_id, self.token_targets = padding_id, token_targets
        self.lengths = sum(count_tokens(ids, padding_id) for ids in leaves(self.x))
        self._cached_groups = (None, None)

    def order(self, epoch):
        """Return the row numbers in the order `epoch` serves them, shape `(samples,)`: a pure function."""
        if self._cached_groups[0] != epoch:
            window = self.batch_size * max(1, min(WINDOW, self.num_samples // (4 * self.batch_size)))
            rows = super().order(epoch)
            parts = [rows[start : start + window] for start in range(0, len(rows), window)]
            rows = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts])
            whole = len(rows) - len(rows) % self.batch_size
            batches = rows[:whole].reshape(-1, self.batch_size)
            batches = self._generator(epoch, len(self)).permutation(batches)  # the key of no batch
            rows = np.concatenate([batches.reshape(-1), rows[whole:]])
            rows.flags.writeable = False
            self._cached_groups = (epoch, rows)
        return self._cached_groups[1]

    def batch(self, epoch, index):
        """Return batch `index` of `epoch`, cut: a pure function."""
        x, *rest = super().batch(epoch, index)
        stops = self._stops(x)
        if self.token_targets:
            rest[0] = rest[0][:, : stops["target"] if isinstance(x, dict) else stops]
        cut = {key: ids[:, : stops[key]] for key, ids in x.items()} if isinstance(x, dict) else x[:, :stops]
        return (cut, *rest)

    def shapes(self, epoch):
        """Return the shape of each leaf of the batches, with `None` for what differs from batch to batch."""
        x, *rest = self.batch(epoch, 0)
        varying = [(None, None) for _ in leaves(x)]
        rest = [(None, *leaf.shape[1:]) for leaf in rest]
        return varying + ([(None, None), *rest[1:]] if self.token_targets else rest)

    def _stops(self, x):
        if isinstance(x, dict):
            return {key: self._stops(ids) for key, ids in x.items()}
        longest = max(1, count_tokens(x, self.padding_id).max())
        return min(x.shape[1], -(-longest // MULTIPLE) * MULTIPLE)


def count_tokens(ids, padding_id):
    """Return the length `(rows,)` of each row of ids, without the padding on its right."""
    real = np.asarray(ids) != padding_id
    return np.where(real.any(axis=1), real.shape[1] - np.argmax(real[:, ::-1], axis=1), 0)
