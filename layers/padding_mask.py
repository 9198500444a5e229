"""Which tokens are real."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class PaddingMask(keras.layers.Layer):
    """Tells which of the token ids are real and which fill a row up.

    Args:
        padding_id: Id that fills rows up; `None` if there is none: all are real then.

    Call arguments:
        ids: Integer tensor of shape `(batch, length)`.

    Returns:
        Bool tensor of the shape of `ids`, true where a token is real.

    Example:

    >>> keras.ops.convert_to_numpy(PaddingMask(0)(np.array([[5, 3, 0]]))).tolist()
    [[True, True, False]]
    """

    def __init__(self, padding_id=0, **kwargs):
        super().__init__(**kwargs)
        self.padding_id = padding_id

    def call(self, ids):
        return ops.ones_like(ids, dtype="bool") if self.padding_id is None else ops.not_equal(ids, self.padding_id)

    def compute_output_spec(self, ids):
        return keras.KerasTensor(ids.shape, dtype="bool")

    def get_config(self):
        return {**super().get_config(), "padding_id": self.padding_id}
