"""Batches of arrays for `model.fit`, in an order that is a pure function of the seed and the epoch."""

import sys
import warnings

import keras
import numpy as np

from recipes.data.shares import count_shares, own_part
from recipes.data.splitting import as_arrays, check_seed, count, leaves, take


class Batches(keras.utils.PyDataset):
    """Serves arrays to `fit` in batches whose order is a pure function of `(seed, epoch)`.

    Every epoch has another order, the same on every backend, in a second `fit`, and where `fit` starts at a later
    epoch; seeded `fit` on arrays repeats one order for ever on TensorFlow. Augmentation draws from a generator made
    from `(seed, epoch, batch)`, and mixing from another. A last batch of one sample, from which batch normalization learns
    nothing, joins the batch before it.

    `Batches` shuffles by itself: the `shuffle` argument of `fit` is ignored.

    Args:
        x: Array, dict or tuple of arrays, all with one row a sample. Never changed.
        y: Targets, one row a sample; `None` if the model learns from `x` alone.
        batch_size: Samples a batch, at least 1.
        seed: Whole number that decides the order and the augmentation.
        shuffle: `False` serves the rows in their own order, as validation wants it.
        augment: Function `(images, rng) -> images` applied to every batch of `x`, such as `recipes.data.augment.shift`;
            `rng` is a `numpy.random.Generator`. It may write into its argument.
        mix: Function `(x, y, rng) -> (x, y)` applied to every augmented batch, such as
            `recipes.data.mixing.automatic_mix({"mixup": 0.2}, num_classes)`.
        repeats: How often each sample stands in a batch, each time augmented anew. An epoch has as many batches as ever
            and so a `repeats`-th of the samples; `repeats` epochs have them all (Hoffer et al., 2020,
            https://arxiv.org/abs/1901.09335).
        sample_weight: Weights of shape `(samples,)`, or `None`.
        drop_last: Whether a last batch smaller than `batch_size` is left out (other samples each epoch).
        initial_epoch: Epoch a `fit` starts at. Give it and `fit` the same number.

    Attributes:
        epoch: The epoch that `batches[i]` belongs to. `fit` counts it; set it in a loop of your own.
        initial_batch: Number of batches of the first epoch that are passed over: `recipes.fit` goes on within an epoch.

    Raises:
        ValueError: If the lengths differ, or an argument is out of range.

    Example:

    >>> import numpy as np
    >>> batches = Batches(np.arange(10), np.arange(10), batch_size=4)
    >>> [len(y) for x, y in batches]
    [4, 4, 2]
    >>> np.array_equal(batches.order(0), batches.order(1))
    False
    """

    def __init__(
        self,
        x,
        y,
        batch_size,
        *,
        seed=0,
        shuffle=True,
        augment=None,
        mix=None,
        repeats=1,
        sample_weight=None,
        drop_last=False,
        initial_epoch=0,
    ):
        super().__init__(workers=1)  # more threads ask for batches out of turn
        self.x = as_arrays(x)
        self.y = None if y is None else as_arrays(y)
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight, "float32")
        self.num_samples = count(self.x if y is None else (self.x, self.y))
        if sample_weight is not None and self.sample_weight.shape != (self.num_samples,):
            raise ValueError(
                f"sample_weight must have shape ({self.num_samples},), one weight a sample. "
                f"Received: {self.sample_weight.shape}"
            )
        if sample_weight is not None and y is None:
            raise ValueError("sample_weight needs y: Keras weighs the loss of targets. Received: y=None")
        check_whole("batch_size", batch_size, 1)
        check_whole("initial_epoch", initial_epoch, 0)
        check_seed(seed)
        if augment is not None and not callable(augment):
            raise ValueError(
                "augment must be a function (images, rng) -> images, or None. For the policies known by name: "
                f"recipes.data.augment.automatic(name, input_shape). Received: {augment!r}"
            )
        if mix is not None and (not callable(mix) or y is None or sample_weight is not None):
            raise ValueError(
                "mix must be a function (x, y, rng) -> (x, y), or None, and needs y and no sample_weight: a mixture has "
                f"none. Received: mix={mix!r}"
            )
        check_whole("repeats", repeats, 1)
        if drop_last and batch_size > self.num_samples:
            raise ValueError(
                f"drop_last=True leaves no batch at all: batch_size is {batch_size} and there are {self.num_samples} "
                "samples. Lower batch_size."
            )
        self.batch_size = int(batch_size)
        self.seed = int(seed)
        self.shuffle = shuffle
        self.augment = augment
        self.mix = mix
        self.repeats = int(repeats)
        self.drop_last = drop_last
        self.initial_epoch = self.epoch = int(initial_epoch)
        self.initial_batch = 0
        self.shares = count_shares()
        self._check_shares()
        self._begun = None  # the epoch that has begun but whose first batch was not asked for yet
        self._cached_order = (None, None)

    def __len__(self):
        """Number of batches an epoch."""
        whole, rest = divmod(self.num_samples, self.batch_size)
        rest -= rest % self.shares
        alone = rest == 1 and whole and self.batch_size > 1
        return whole if self.drop_last or alone or not rest else whole + 1

    def __getitem__(self, index):
        """Batch `index` of the epoch `self.epoch`."""
        # A pass over the data keeps the epoch it began in: with fit(steps_per_epoch=...) it spans several.
        if index == 0 and self._begun is not None:
            self.epoch, self._begun = self._begun, None
        if self.initial_batch and self.epoch == self.initial_epoch:
            index = (index + self.initial_batch) % len(self)  # on an accelerator Keras asks for one more than it uses
        return own_part(self.batch(self.epoch, index))

    def batch(self, epoch, index):
        """Return batch `index` of `epoch`: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, a pure function."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} batches an epoch. Received: index={index}")
        index %= len(self)
        start = index * self.batch_size
        last = index == len(self) - 1 and not self.drop_last
        stop = self.num_samples if last else start + self.batch_size
        rows = self.order(epoch)[start:stop]
        rows = rows[: len(rows) - len(rows) % self.shares]
        x = take(self.x, rows)  # an index array copies, so that `augment` cannot write into the caller's arrays
        if self.augment is not None:
            x = self.augment(x, self._generator(epoch, index))
            if {len(leaf) for leaf in leaves(x)} != {len(rows)}:
                raise ValueError(
                    f"augment must return as many samples as it was given, {len(rows)}. "
                    f"Received: {[np.shape(leaf) for leaf in leaves(x)]}"
                )
        if self.y is None:
            return (x,)
        y = take(self.y, rows)
        if self.mix is not None:
            x, y = self.mix(x, y, self._generator(epoch, index, 1))
        return (x, y) if self.sample_weight is None else (x, y, self.sample_weight[rows])

    def shapes(self, epoch):
        """Return the shape of each leaf of the batches, with `None` for what differs from batch to batch."""
        return [(None, *leaf.shape[1:]) for leaf in keras.tree.flatten(self.batch(epoch, 0))]

    def order(self, epoch):
        """Return the row numbers in the order `epoch` serves them, shape `(samples,)`: a pure function."""
        if self._cached_order[0] != epoch:
            rows = np.arange(self.num_samples)
            pass_, part = divmod(epoch, self.repeats)  # over the data, which takes `repeats` epochs
            if self.shuffle:
                self._generator(pass_).shuffle(rows)
            if self.repeats > 1:
                distinct = -(-self.num_samples // self.repeats)
                rows = np.repeat(np.roll(rows, -part * distinct)[:distinct], self.repeats)[: self.num_samples]
            rows.flags.writeable = False
            self._cached_order = (epoch, rows)
        return self._cached_order[1]

    def on_epoch_begin(self):
        """Called by Keras before every epoch."""
        adapter = self._adapter()
        if adapter is not None:
            # By default `fit` asks for the batches in an order drawn from Python's global `random`.
            adapter.shuffle = False
            self._begun = self.initial_epoch + max(0, getattr(adapter, "epochs_ended", 0))

    def on_epoch_end(self):
        """Called by Keras after every epoch, and once before the first."""
        # `fit` makes one adapter and ends one epoch too many, before the first: `EpochIterator.reset`. The count lies
        # on the adapter, so that a second `fit` starts over and an `evaluate` inside `fit` disturbs nothing.
        adapter = self._adapter()
        if adapter is not None:
            adapter.epochs_ended = getattr(adapter, "epochs_ended", -1) + 1

    def _check_shares(self):
        """Raise or warn if batches cannot be divided evenly over the devices of a `keras.distribution`."""
        if self.batch_size % self.shares:
            raise ValueError(
                f"batch_size must be a multiple of {self.shares}, the devices that share a batch. "
                f"Received: batch_size={self.batch_size}"
            )
        if self.num_samples < self.shares:
            raise ValueError(f"There must be at least {self.shares} samples, one a device. Received: {self.num_samples}")
        left = self.num_samples % self.shares
        if left and not self.shuffle:
            warnings.warn(
                f"{left} of {self.num_samples} samples are left out: {self.shares} devices share them.", stacklevel=3
            )

    def _adapter(self):
        """The Keras object that is calling the hook above, or None in a loop of the user's own."""
        frame = sys._getframe(2)
        while frame.f_locals.get("self") is self:  # a subclass that calls super()
            frame = frame.f_back
        caller = frame.f_locals.get("self")
        return caller if getattr(caller, "py_dataset", None) is self else None

    def _generator(self, *key):
        """Generator for the key `(epoch,)`, `(epoch, batch)` or `(epoch, batch, 1)`; no two keys share a stream."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def check_whole(argument, value, least):
    """Raise unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{argument} must be a whole number, at least {least}. Received: {argument}={value!r}")
