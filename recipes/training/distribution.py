"""Transformers divided over devices, with `keras.distribution` on JAX.

`recipes.fit` needs no word about devices: make the model and train it while a distribution is in force.

    keras.distribution.set_distribution(keras.distribution.DataParallel())  # each device has all weights
    model = recipes.vit((32, 32, 3), 10)
    recipes.fit(model, data)

A batch is divided evenly, so `batch_size` must be a multiple of the number of devices; of the last batch of an epoch as many
examples as fit are used, and others next time. With several processes, started once a host after
`keras.distribution.initialize`, each makes the same batches and feeds its own part of them: set
`distribution.auto_shard_dataset = False`, because there is nothing left to divide, and the same seed in each.
`benchmarks/two_processes.py` does it on one machine.

On TensorFlow, build the model under `tf.distribute.MirroredStrategy().scope()` and call `recipes.fit` as ever.
"""

import keras

# Of the layers of `recipes.blocks`: which axis of a weight is divided. The first matrix of each branch by its columns, the
# second by its rows, so that a device works through the branch alone and the results are added once (Shoeybi et al., 2019,
# https://arxiv.org/abs/1909.08053, section 3); the vectors of tokens by their width. What is not named is on every device.
COLUMNS = (r".*attention/(qkv|query|key_value)/kernel", r".*_mlp1/kernel", r".*embedding/embeddings")
ROWS = (r".*attention/output/kernel", r".*_mlp2/kernel")
VECTORS = (r".*attention/(qkv|query|key_value)/bias", r".*_mlp1/bias")


def transformer_layout(mesh, axis="model"):
    """Say how the weights of our transformers are divided over an axis of devices.

    Make the model while `keras.distribution.ModelParallel` with this layout is in force: weights get their place when
    they are made. The width and the MLP's must be multiples of the number of devices along `axis`.

    Args:
        mesh: `keras.distribution.DeviceMesh` that has the axis.
        axis: Name of the axis.

    Returns:
        `keras.distribution.LayoutMap`.

    Raises:
        ValueError: If the mesh has no such axis.

    Example:

    >>> mesh = keras.distribution.DeviceMesh((1, 1), ("batch", "model"), devices=["cpu:0"])
    >>> layout = transformer_layout(mesh)
    >>> layout["block0_mlp1/kernel"].axes, layout["block0_mlp2/kernel"].axes
    ((None, 'model'), ('model', None))

    Reference:
        [Shoeybi et al., 2019](https://arxiv.org/abs/1909.08053), section 3.
    """
    if axis not in mesh.axis_names:
        raise ValueError(f"axis must be one of the mesh's, {list(mesh.axis_names)}. Received: axis={axis!r}")
    layout = keras.distribution.LayoutMap(mesh)
    for paths, axes in ((COLUMNS, (None, axis)), (ROWS, (axis, None)), (VECTORS, (axis,))):
        for path in paths:
            layout[path] = axes
    return layout
