"""What models of token ids learn with: loss, accuracy, and the class of those that learn from the ids alone."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class TokenCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy a token, averaged over the tokens that count.

    Targets below 0 do not count: `recipes.data.mask_tokens` leaves -1 where there is nothing to guess. Nor do those equal
    to `padding_id`.

    Args:
        shift: Whether the logits at a place are for the token after it, as in a language model: `y_true` are then the
            ids that the model read, the first of which nobody predicts.
        padding_id: Target that does not count, or `None`.
        label_smoothing: Float in `[0, 1)`: the share of each target spread evenly over all ids.

    Call arguments:
        y_true: Ids `(batch, length)`.
        y_pred: Logits `(batch, length, vocabulary)`.

    Example:

    >>> loss = TokenCrossEntropy(shift=True, padding_id=0)
    >>> round(float(loss(np.array([[1, 2, 3, 0]]), np.zeros((1, 4, 8)))), 4)  # ln 8
    2.0794
    """

    def __init__(self, shift=False, padding_id=None, label_smoothing=0.0, name="token_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1). Received: label_smoothing={label_smoothing}")
        self.shift = shift
        self.padding_id = padding_id
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        ids, logits, counts = counted(y_true, y_pred, self.shift, self.padding_id)
        loss = ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)
        if self.label_smoothing:
            even = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * even
        return loss * counts

    def get_config(self):
        return {
            **super().get_config(),
            "shift": self.shift,
            "padding_id": self.padding_id,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable("recipes")
class TokenAccuracy(keras.metrics.Metric):
    """Share of the tokens that count whose largest logit is the target. Arguments as in `TokenCrossEntropy`.

    Example:

    >>> accuracy = TokenAccuracy()
    >>> accuracy.update_state(np.array([[1, 0, -1]]), np.array([[[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]]))
    >>> float(accuracy.result())
    0.5
    """

    def __init__(self, shift=False, padding_id=None, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.shift = shift
        self.padding_id = padding_id
        self.right = self.add_weight(name="right", initializer="zeros")
        self.all = self.add_weight(name="all", initializer="zeros")
        self._direction = "up"  # what EarlyStopping("val_accuracy") asks a metric

    def update_state(self, y_true, y_pred, sample_weight=None):
        ids, logits, _ = counted(y_true, ops.convert_to_tensor(y_pred), self.shift, self.padding_id)
        weight = ops.cast(_counts(y_true, self.shift, self.padding_id), self.dtype)
        if sample_weight is not None:
            weight = weight * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        right = ops.cast(ops.equal(ids, ops.cast(ops.argmax(logits, axis=-1), "int32")), self.dtype)
        self.right.assign_add(ops.sum(right * weight))
        self.all.assign_add(ops.sum(weight))

    def result(self):
        return ops.divide_no_nan(self.right, self.all)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "shift": self.shift, "padding_id": self.padding_id}


def counted(y_true, logits, shift, padding_id):
    """Return ids `(batch, n)` with 0 where none counts, their logits `(batch, n, vocabulary)`, and weights of mean 1."""
    counts = ops.cast(_counts(y_true, shift, padding_id), "float32")
    ids, logits = (y_true[:, 1:], logits[:, :-1]) if shift else (y_true, logits)
    ids = ops.cast(ids, "int32") * ops.cast(counts, "int32")
    # so that Keras' mean over all places is the mean over those that count
    return ids, logits, counts * (ops.cast(ops.size(counts), "float32") / ops.maximum(ops.sum(counts), 1.0))


def _counts(y_true, shift, padding_id):
    ids = ops.cast(y_true, "int32")
    ids = ids[:, 1:] if shift else ids
    return ids >= 0 if padding_id is None else (ids >= 0) & (ids != padding_id)


@keras.saving.register_keras_serializable("recipes")
class LanguageModel(keras.Model):
    """Functional model that learns from token ids alone: where no targets are given, they are the ids themselves.

    Compile it with `TokenCrossEntropy(shift=True)`. `fit(ids)` and `fit(ids, ids)` are the same; an encoder-decoder takes
    `fit({"source": ids, "target": ids})`.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, own_targets(x) if y is None else y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, own_targets(x) if y is None else y, y_pred, sample_weight)


def own_targets(x):
    """Return the ids in the inputs `x` of a language model that are its targets."""
    return x["target"] if isinstance(x, dict) else x


@keras.saving.register_keras_serializable("recipes")
class NoHead(keras.losses.Loss):
    """Refuses to train a model that only embeds."""

    def __init__(self, name="no_head", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        raise ValueError(
            'task="embed" has no head and nothing to learn. Build the model with task="classify", or give it a head: '
            "recipes.replace_head(model, num_classes)."
        )
