"""The batches of a `PyDataset` in an order that is a pure function of the seed and the epoch."""

import keras
import numpy as np

from recipes.data.batches import Batches, check_whole
from recipes.data.splitting import check_seed
from recipes.data.streams import WatchedBatches


class ShuffledBatches(Batches):
    """Serves the batches of a `keras.utils.PyDataset`, each as it is, in another order every epoch.

    Keras draws the order from Python's global `random`. Here it depends on `(seed, epoch)` alone, as that of the rows in
    `Batches`, so a training can go on within an epoch.

    Args:
        data: `PyDataset` with a length whose batch `i` is always the same.
        seed: Whole number that decides the order.
        initial_epoch: Epoch a `fit` starts at.

    Example:

    >>> data = recipes.data.Batches(np.arange(6), None, 2, shuffle=False)
    >>> shuffled = ShuffledBatches(data, seed=1)
    >>> sorted(int(x[0]) for (x,) in (shuffled.batch(5, i) for i in range(3)))
    [0, 2, 4]
    """

    def __init__(self, data, *, seed=0, initial_epoch=0):
        keras.utils.PyDataset.__init__(self, workers=1)
        check_seed(seed)
        check_whole("initial_epoch", initial_epoch, 0)
        self.data = data
        self.num_samples = len(data)  # what `order` puts in order: batches
        self.seed, self.shuffle, self.repeats = int(seed), True, 1
        self.initial_epoch = self.epoch = int(initial_epoch)
        self.initial_batch, self._begun, self._cached_order = 0, None, (None, None)

    def __len__(self):
        return self.num_samples

    def batch(self, epoch, index):
        """Return batch `index` of `epoch`: as pure a function as that of `data`."""
        batch = self.data[int(self.order(epoch)[index % len(self)])]
        parts = tuple(part for part in batch if part is not None) if isinstance(batch, (tuple, list)) else (batch,)
        return keras.tree.map_structure(np.asarray, parts)

    def shapes(self, epoch):
        """Return the shape of each leaf of the batches, with `None` for what differs between the first two."""
        first, other = super().shapes(epoch), keras.tree.flatten(self.batch(epoch, min(1, len(self) - 1)))
        pairs = zip(first, (leaf.shape for leaf in other), strict=True)
        return [tuple(n if n == m else None for n, m in zip(*pair, strict=True)) for pair in pairs]


def shuffled(data, seed):
    """Return `ShuffledBatches` of a `PyDataset` that leaves its order to Keras; anything else as it is.

    One that does something of its own between epochs, or has several workers, keeps its own order.
    """
    own = data.data if isinstance(data, WatchedBatches) else data
    if not isinstance(own, keras.utils.PyDataset) or isinstance(own, Batches) or own.workers > 1 or own.use_multiprocessing:
        return data
    kind, plain = type(own), keras.utils.PyDataset
    if kind.on_epoch_end is not plain.on_epoch_end or kind.on_epoch_begin is not plain.on_epoch_begin:
        return data
    return ShuffledBatches(data, seed=seed)
