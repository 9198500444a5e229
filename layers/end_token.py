"""The token that ends a text."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class EndToken(keras.layers.Layer):
    """Marks the token that ends each text: a 1 there, 0 elsewhere.

    `keras.layers.Dot(axes=1)` of this and the tokens picks the vector of the last one, which in a causal transformer is
    the only one that has seen the whole text.

    Args:
        token_id: Id that ends a text, of which the first counts; `None` for the highest id of each text, as CLIP has it.

    Call arguments:
        ids: Integer tensor of shape `(batch, length)`. A text without `token_id` counts as ended at its first token.

    Returns:
        Float tensor of the shape of `ids`.

    Example:

    >>> ops.convert_to_numpy(EndToken()(np.array([[5, 9, 0], [3, 1, 9]]))).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), section 2.4.
    """

    def __init__(self, token_id=None, **kwargs):
        super().__init__(**kwargs)
        if token_id is not None and token_id < 0:
            raise ValueError(f"token_id must be at least 0. Received: token_id={token_id}")
        self.token_id = token_id

    def call(self, ids):
        wanted = ids if self.token_id is None else ops.equal(ids, self.token_id)
        wanted = ops.cast(wanted, "float32")  # TensorFlow has no argmax of integers on a GPU
        return ops.one_hot(ops.argmax(wanted, axis=1), ids.shape[1], dtype=self.compute_dtype)

    def compute_output_spec(self, ids):
        return keras.KerasTensor(ids.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "token_id": self.token_id}
