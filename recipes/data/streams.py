"""Streams of batches, looked at one by one as they arrive: `tf.data.Dataset` and `keras.utils.PyDataset`."""

import keras
import numpy as np

from recipes.data.batches import Batches


def watched(data, look, failed, name):
    """Return the stream `data` so that `look(index, batch)` sees each batch, on the host, before the model does.

    Args:
        data: `tf.data.Dataset` of dense tensors or a `keras.utils.PyDataset`; anything else is returned as it is.
        look: Function of the number of the batch in its epoch and of the batch as a tuple of arrays; what it raises ends the
            training.
        failed: Function that is told what `look` or the data raised: TensorFlow makes an error of its own of it.
        name: What to call the data in messages, such as `"data"`.

    Returns:
        Data of the same kind.

    Raises:
        ValueError: If the stream has no end or no batch, or is an iterator, which could be read once only.
    """
    if hasattr(data, "__next__"):
        raise ValueError(
            f"{name} must be data that can be read again for every epoch. Received: a {type(data).__name__}, which ends "
            "after one pass. Pass arrays, a keras.utils.PyDataset, or tf.data.Dataset.from_generator(function, ...), where "
            "function() makes a new generator."
        )
    if isinstance(data, keras.utils.PyDataset):
        length = _length(data)
        if length is None or length == float("inf"):
            raise ValueError(f"{name} has no end: give the PyDataset a __len__, the number of batches an epoch.")
        if length == 0:
            raise ValueError(f"{name} holds 0 batches. Received: a {type(data).__name__} of length 0")
        # a process of its own could not report what it sees
        return data if data.use_multiprocessing or isinstance(data, Batches) else WatchedBatches(data, look, failed)
    return _watched_dataset(data, look, failed, name) if hasattr(data, "element_spec") else data


class WatchedBatches(keras.utils.PyDataset):
    """A `PyDataset` whose batches are looked at when they are asked for.

    Args:
        data: The `PyDataset`.
        look: Function of the number of the batch and the batch.
        failed: Function of what either raised.

    Example:

    >>> batches = recipes.data.Batches(np.arange(6), np.arange(6), 3, shuffle=False)
    >>> WatchedBatches(batches, lambda index, batch: print(index, batch[1]), print)[1][0].tolist()
    1 [3 4 5]
    [3, 4, 5]
    """

    def __init__(self, data, look, failed):
        super().__init__(data.workers, False, data.max_queue_size)
        self.data = data
        self.look = look
        self.failed = failed

    def __len__(self):
        return _length(self.data)

    def __getitem__(self, index):
        try:
            batch = self.data[index]
            self.look(index, batch)
        except Exception as error:
            self.failed(error)
            raise
        return batch

    def on_epoch_begin(self):
        self.data.on_epoch_begin()

    def on_epoch_end(self):
        self.data.on_epoch_end()


def _length(data):
    try:
        return data.num_batches
    except NotImplementedError:
        return None


def _watched_dataset(dataset, look, failed, name):
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):  # one of tf.distribute, already divided
        return dataset
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"{name} has no end, so no epoch would. Pass dataset.take(batches an epoch).")
    if cardinality == 0:
        raise ValueError(f"{name} holds 0 batches. Received: a dataset of cardinality 0")
    if not all(isinstance(spec, tf.TensorSpec) for spec in tf.nest.flatten(dataset.element_spec)):
        return dataset  # ragged or sparse tensors
    structure = dataset.element_spec

    def see(index, *leaves):
        batch = tf.nest.pack_sequence_as(structure, [np.asarray(leaf) for leaf in leaves])
        try:
            look(int(index), batch)
        except Exception as error:
            failed(error)
            raise
        return np.int64(index)

    def step(index, *batch):
        batch = batch if isinstance(structure, tuple) else batch[0]
        seen = tf.numpy_function(see, [index, *tf.nest.flatten(batch)], tf.int64)
        with tf.control_dependencies([seen]):
            return tf.nest.map_structure(tf.identity, batch)

    if isinstance(structure, tuple):
        return dataset.enumerate().map(lambda index, batch: step(index, *batch)).prefetch(2)
    return dataset.enumerate().map(step).prefetch(2)
