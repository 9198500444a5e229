"""How `Batches` reach `model.fit`."""

import keras

from recipes.data.batches import Batches


def fit_batches(model, train, *, validation_data=None, epochs, initial_epoch=0, run=None, **arguments):
    """Call `model.fit` on `train`, so that each epoch gets its own order and no step waits for its batch.

    Args:
        model: Compiled model.
        train: `Batches`, or anything that `model.fit` takes.
        validation_data: The same, or `None`.
        epochs: Epoch to end at.
        initial_epoch: Epoch to start at.
        run: `recipes.training.run.Run` that keeps checkpoints and goes on from one, maybe within `initial_epoch`; or `None`.
        **arguments: Of `model.fit`.

    Returns:
        `keras.callbacks.History`.
    """
    data, skipped = train, 0
    build_optimizer(model)
    if run is not None:
        skipped = run.batch if initial_epoch == run.epoch else 0
        arguments = {**arguments, "callbacks": run.around(model, train, epochs=epochs, **arguments)}
    if isinstance(train, Batches):
        train.initial_epoch = train.epoch = initial_epoch
        train.initial_batch = skipped if keras.backend.backend() == "jax" else 0  # torch reads what it passes over
        if keras.backend.backend() == "tensorflow":
            arguments = {**arguments, "steps_per_epoch": len(train), "shuffle": False}
            data = _dataset(train, initial_epoch, epochs, skipped)
    if isinstance(validation_data, Batches) and keras.backend.backend() == "tensorflow":
        validation_data = _dataset(validation_data, 0, 1)
    try:
        return model.fit(data, validation_data=validation_data, epochs=epochs, initial_epoch=initial_epoch, **arguments)
    finally:
        if isinstance(train, Batches):
            train.initial_batch = 0


def build_optimizer(model):
    """Make the state of the optimizer before the first step, in which TensorFlow would make it, and trace the step again."""
    if model.built and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _dataset(batches, first, last, skipped=0):
    """Return a `tf.data.Dataset` of the batches of the epochs from `first` to `last`, without the first `skipped`.

    As many others follow at the end, which are not asked for: Keras counts the batches that it passes over as read.

    Keras reads a `PyDataset` through `tf.data.Dataset.from_generator`, and a training step on two cores then took 1.3 times
    as long (the compact ResNet on 8x8 pixels, batches of 128, 156 ms for 122) as with this: numbers mapped to batches.
    """
    import tensorflow as tf

    steps = len(batches)
    example = batches.batch(first, 0)
    types = [tf.as_dtype(leaf.dtype) for leaf in keras.tree.flatten(example)]
    shapes = batches.shapes(first)

    def read(number):
        return keras.tree.flatten(batches.batch(*divmod(int(number), steps)))

    def fetch(number):
        leaves = tf.numpy_function(read, [number], types, stateful=False)
        return keras.tree.pack_sequence_as(example, [tf.ensure_shape(*pair) for pair in zip(leaves, shapes, strict=True)])

    return tf.data.Dataset.range(first * steps + skipped, last * steps + skipped).map(fetch).prefetch(2)
