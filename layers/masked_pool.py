"""One vector for a sequence."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class MaskedPool(keras.layers.Layer):
    """Pools a sequence to one vector, over the steps that are real.

    Args:
        mode: `"mean"` or `"max"`.

    Call arguments:
        x: Float tensor of shape `(batch, length, width)`.
        mask: Bool tensor of shape `(batch, length)`, true where a step is real; all are without it.

    Returns:
        Float tensor of shape `(batch, width)`: zeros where no step of a row is real.

    Example:

    >>> x = np.array([[[1.0], [3.0], [9.0]]])
    >>> keras.ops.convert_to_numpy(MaskedPool()(x, mask=np.array([[True, True, False]]))).tolist()
    [[2.0]]
    """

    def __init__(self, mode="mean", **kwargs):
        super().__init__(**kwargs)
        if mode not in ("mean", "max"):
            raise ValueError(f'mode must be "mean" or "max". Received: mode={mode!r}')
        self.mode = mode
        self.supports_masking = True

    def call(self, x, mask=None):
        if mask is None:
            return ops.mean(x, axis=1) if self.mode == "mean" else ops.max(x, axis=1)
        if keras.backend.standardize_dtype(mask.dtype) != "bool":
            raise ValueError(
                "mask must be bool, true where a step is real: pass mask == 1, or mask == 0 where 1 means padding. "
                f"Received: dtype {keras.backend.standardize_dtype(mask.dtype)}"
            )
        mask = ops.expand_dims(mask, -1)  # (batch, length, 1)
        if self.mode == "mean":
            count = ops.cast(ops.sum(ops.cast(mask, "int32"), axis=1), x.dtype)
            return ops.sum(ops.where(mask, x, ops.zeros_like(x)), axis=1) / ops.maximum(count, ops.ones_like(count))
        lowest = ops.full_like(x, -1e30 if x.dtype != "float16" else -6e4)
        return ops.where(ops.any(mask, axis=1), ops.max(ops.where(mask, x, lowest), axis=1), ops.zeros_like(x[:, 0]))

    def compute_mask(self, x, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[2]

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}
