"""The losses and the accuracy of every task. Models put out logits, so the losses take logits."""

import keras
from keras import ops


def _by_kind(y_true, y_pred, ids, soft):
    """Return `ids(y_true)` for class ids `(batch, ...)` or `(batch, ..., 1)`, `soft(y_true)` for a probability a class."""
    shape = y_true.shape
    if getattr(shape, "rank", 0) is None:  # TensorFlow, when one compiled model has seen both kinds
        y_true, full = ops.reshape(y_true, (-1,)), ops.shape(y_pred)
        same = ops.equal(ops.size(y_true), ops.size(y_pred))
        # XLA compiles both branches, so both must have a shape that fits, whichever is taken
        as_ids = ops.reshape(y_true[: ops.size(y_pred) // full[-1]], full[:-1])
        as_soft = ops.reshape(ops.tile(y_true, [ops.size(y_pred) // ops.size(y_true)]), full)
        return ops.cond(same, lambda: soft(as_soft), lambda: ids(as_ids))
    if len(shape) < len(y_pred.shape) or (shape[-1] == 1 and y_pred.shape[-1] != 1):
        return ids(y_true)
    return soft(y_true)


@keras.saving.register_keras_serializable("recipes")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits with integer ids or probabilities as targets.

    Keras' sparse loss refuses the soft targets that MixUp makes and has no label smoothing; this takes both.

    Args:
        label_smoothing: Float in `[0, 1)`: the share of each target spread evenly over all classes.

    Call arguments:
        y_true: Class ids of shape `(batch, ...)` or `(batch, ..., 1)`, or probabilities `(batch, ..., classes)`.
        y_pred: Logits `(batch, ..., classes)`.

    Example:

    >>> loss = CrossEntropy(label_smoothing=0.1)
    >>> round(float(loss(np.array([0, 1]), np.zeros((2, 4)))), 4)  # ln 4
    1.3863

    Reference:
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), section 7.
    """

    def __init__(self, label_smoothing=0.0, name="cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1). Received: label_smoothing={label_smoothing}")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        smoothing = self.label_smoothing

        def of_soft(y_true):
            if smoothing:
                y_true = (1 - smoothing) * y_true + smoothing / y_pred.shape[-1]
            return -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)

        def of_ids(y_true):
            ids = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
            loss = ops.sparse_categorical_crossentropy(ids, y_pred, from_logits=True)
            if smoothing:  # the even part: -mean log p = logsumexp - mean of the logits
                even = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
                loss = (1 - smoothing) * loss + smoothing * even
            return loss

        return _by_kind(y_true, y_pred, of_ids, of_soft)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("recipes")
class BinaryCrossEntropy(keras.losses.Loss):
    """One yes-or-no cross-entropy a class, averaged over the classes, for classes that exclude each other.

    With mixed images each of two classes may be fully there: no softmax makes them compete. Takes the targets that
    `CrossEntropy` takes. The largest logit is the class, as ever; the softmax of the logits is no calibrated probability.

    Args:
        label_smoothing: Float in `[0, 1)`: the share of each target spread evenly over all classes.

    Call arguments:
        y_true: Class ids of shape `(batch, ...)` or `(batch, ..., 1)`, or probabilities `(batch, ..., classes)`.
        y_pred: Logits `(batch, ..., classes)`.

    Example:

    >>> loss = BinaryCrossEntropy()
    >>> round(float(loss(np.array([0, 1]), np.zeros((2, 4)))), 4)  # ln 2
    0.6931

    Reference:
        [Wightman et al., 2021](https://arxiv.org/abs/2110.00476), section 2.3.
    """

    def __init__(self, label_smoothing=0.0, name="binary_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1). Received: label_smoothing={label_smoothing}")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        classes = y_pred.shape[-1]

        def of_soft(y_true):
            y_true = (1 - self.label_smoothing) * ops.cast(y_true, y_pred.dtype) + self.label_smoothing / classes
            return ops.mean(ops.softplus(y_pred) - y_true * y_pred, axis=-1)

        def of_ids(y_true):
            ids = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
            return of_soft(ops.one_hot(ids, classes, dtype=y_pred.dtype))

        return _by_kind(y_true, y_pred, of_ids, of_soft)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("recipes")
class MeanSquaredError(keras.losses.Loss):
    """Mean squared error in units of `scale`, so that the loss of a target is near 1 at the start whatever its unit.

    Args:
        scale: Sequence of positive floats, one a target: its standard deviation.

    Call arguments:
        y_true: Float tensor `(batch,)` or `(batch, targets)`.
        y_pred: Float tensor `(batch, targets)`.

    Example:

    >>> loss = MeanSquaredError(scale=(10.0,))
    >>> float(loss(np.array([10.0]), np.array([[0.0]])))
    1.0
    """

    def __init__(self, scale=(1.0,), name="mean_squared_error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = tuple(float(s) for s in scale)

    def call(self, y_true, y_pred):
        error = (ops.reshape(y_true, ops.shape(y_pred)) - y_pred) / ops.convert_to_tensor(self.scale, y_pred.dtype)
        return ops.mean(ops.square(error), axis=-1)

    def get_config(self):
        return {**super().get_config(), "scale": list(self.scale)}


@keras.saving.register_keras_serializable("recipes")
class NotAdapted(keras.losses.Loss):
    """Refuses to train: the model standardises its input or target, and has not seen the data that says how.

    A builder compiles with it while its `Standardize` layers are untouched; `adapt=` and `recipes.fit` replace it.
    """

    def __init__(self, name="not_adapted", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        raise ValueError(
            "This model standardises its inputs, and its statistics are not set, so training would silently run on raw "
            "numbers. Pass the training data to the builder, `adapt=(x, y)`, or train with `recipes.fit`, which adapts."
        )


@keras.saving.register_keras_serializable("recipes")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Share of predictions whose largest logit is the target: class ids, or the largest of soft targets.

    Example:

    >>> accuracy = Accuracy()
    >>> accuracy.update_state(np.array([1, 0]), np.array([[0.0, 2.0], [0.0, 2.0]]))
    >>> float(accuracy.result())
    0.5
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(_matches, name=name, dtype=dtype)
        self._direction = "up"  # what EarlyStopping("val_accuracy") asks a metric

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _matches(y_true, y_pred):
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    ids = _by_kind(
        y_true,
        y_pred,
        lambda y: ops.cast(ops.reshape(y, ops.shape(y_pred)[:-1]), "int32"),
        lambda y: ops.cast(ops.argmax(y, axis=-1), "int32"),
    )
    return ops.cast(ops.equal(ids, ops.cast(ops.argmax(y_pred, axis=-1), "int32")), "float32")
