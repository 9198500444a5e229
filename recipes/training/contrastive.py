"""Loss and accuracy of pairs, such as images and their captions."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class ContrastiveLoss(keras.losses.Loss):
    """Cross-entropy of finding each image's text among those of the batch, and each text's image.

    The targets say which pairs are alike: where captions repeat, as they do in small data, a text belongs to every image
    with the same id, and the target is spread evenly over these. With ids that all differ this is CLIP's loss.

    Call arguments:
        y_true: Ids of shape `(batch,)` or `(batch, 1)`.
        y_pred: `(batch, 2, width)`: of each pair the embedding of the image, times the scale, and that of the text.

    Example:

    >>> pairs = np.zeros((4, 2, 3), "float32")
    >>> round(float(ContrastiveLoss()(np.arange(4), pairs)), 4)  # ln 4
    1.3863

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), figure 3; ids that repeat as
        [Yang et al., 2022](https://arxiv.org/abs/2204.03610), section 3.2.
    """

    def __init__(self, name="contrastive_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        logits, alike = _similarities(y_true, y_pred)
        target = alike / ops.sum(alike, axis=1, keepdims=True)
        images = -ops.sum(target * ops.log_softmax(logits, axis=1), axis=1)
        texts = -ops.sum(target * ops.log_softmax(ops.transpose(logits), axis=1), axis=1)  # `alike` is symmetric
        return (images + texts) / 2


@keras.saving.register_keras_serializable("recipes")
class ContrastiveAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of images whose most similar text in the batch is one of their own id.

    Example:

    >>> accuracy = ContrastiveAccuracy()
    >>> accuracy.update_state(np.arange(2), np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, -1.0]]]))
    >>> float(accuracy.result())
    0.5
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(_found, name=name, dtype=dtype)
        self._direction = "up"

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _similarities(y_true, y_pred):
    """Logits `(images, texts)`, and 1 where they are alike."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    ids = ops.reshape(y_true, (-1,))
    logits = ops.matmul(y_pred[:, 0], ops.transpose(y_pred[:, 1]))
    return logits, ops.cast(ops.equal(ids[:, None], ids[None, :]), logits.dtype)


def _found(y_true, y_pred):
    logits, alike = _similarities(y_true, y_pred)
    best = ops.cast(ops.equal(logits, ops.max(logits, axis=1, keepdims=True)), logits.dtype)
    return ops.max(best * alike, axis=1)
