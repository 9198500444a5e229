import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class Standardize(keras.layers.Layer):
    """Shifts and scales each column to mean 0 and standard deviation 1, or back again.

    Unlike `keras.layers.Normalization` the statistics are plain weights: `adapt` takes effect at once, also after the
    model has been called, and `set_weights` and weight files carry them.

    Args:
        invert: Whether to undo: `x * std + mean`. The last layer of a regression uses it.
        padding_value: Number that fills series up: steps that have it in every column tell `adapt` nothing. `None` if
            nothing does.

    Call arguments:
        x: Float tensor of shape `(..., columns)`.
        invert: Which way this call goes; `None` as the layer was made.

    Returns:
        Tensor of the same shape.

    Example:

    >>> layer = Standardize()
    >>> layer.adapt(np.array([[0.0, 5.0], [2.0, 5.0]]))
    >>> np.asarray(layer(np.array([[2.0, 5.0]]))).tolist()
    [[1.0, 0.0]]
    """

    def __init__(self, invert=False, padding_value=None, **kwargs):
        super().__init__(**kwargs)
        self.invert = invert
        self.padding_value = padding_value

    def build(self, input_shape):
        columns = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=columns, initializer="zeros", trainable=False)
        self.std = self.add_weight(name="std", shape=columns, initializer="ones", trainable=False)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x, invert=None):
        mean, std = ops.cast(self.mean, x.dtype), ops.cast(self.std, x.dtype)
        return x * std + mean if (self.invert if invert is None else invert) else (x - mean) / std

    def adapt(self, values):
        """Set mean and standard deviation from `values`, an array `(..., columns)` or `(rows,)`.

        A column that never changes keeps the standard deviation 1. What is not finite does not count.
        """
        values = np.asarray(values, dtype="float64")
        values = values.reshape(len(values), -1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
        if not self.built:
            self.build((None, values.shape[-1]))
            self.built = True
        if values.shape[-1] != self.mean.shape[0]:
            raise ValueError(f"values must have {self.mean.shape[0]} columns. Received: shape {values.shape}")
        if self.padding_value is not None:
            real = (values != self.padding_value).any(axis=1)
            values = values[real] if real.any() else values
        values = np.ma.masked_invalid(values) if not np.isfinite(values).all() else values
        mean, std = (np.ma.filled(statistic, 0.0) for statistic in (values.mean(axis=0), values.std(axis=0)))
        std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-12), std, 1.0)
        self.mean.assign(mean.astype("float32"))
        self.std.assign(std.astype("float32"))
        self.count.assign(float(len(values)))

    @property
    def adapted(self):
        """Whether statistics were set, by `adapt` or from a file."""
        return bool(self.built and ops.convert_to_numpy(self.count) > 0)

    def get_config(self):
        return {**super().get_config(), "invert": self.invert, "padding_value": self.padding_value}
