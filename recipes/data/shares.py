"""The share of a batch that each device gets, and each process feeds, under `keras.distribution`."""

import keras


def count_shares():
    """Return into how many equal parts the distribution in force divides a batch: 1 without one."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_model_replicas


def round_up(batch_size):
    """Return the smallest multiple of `count_shares()` that is at least `batch_size`."""
    shares = count_shares()
    return -(-batch_size // shares) * shares


def own_part(batch):
    """Return the rows of `batch` that this process feeds to its devices: all of them where there is one process."""
    distribution = keras.distribution.distribution()
    if distribution is None or distribution.num_processes == 1:
        return batch
    parts = min(distribution.num_processes, distribution.num_model_replicas)
    number = distribution.data_shard_id

    def part(leaf):
        rows = len(leaf) // parts
        return leaf[number * rows : (number + 1) * rows]

    return keras.tree.map_structure(part, batch)
