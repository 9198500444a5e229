import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class CategoryEmbedding(keras.layers.Layer):
    """Embeds several integer columns, each with its own categories, and joins the vectors of a row.

    Args:
        sizes: Sequence of ints: the number of categories of each column; ids run from 0 to size - 1.
        width: Length of the vector of one category. RealMLP uses 8.

    Call arguments:
        ids: Integer tensor of shape `(batch, columns)`.

    Returns:
        Float tensor of shape `(batch, columns * width)`.

    Example:

    >>> CategoryEmbedding((3, 12), width=8)(np.array([[2, 11]])).shape[-1]
    16

    Reference:
        [Guo & Berkhahn, 2016](https://arxiv.org/abs/1604.06737), section 3.
    """

    def __init__(self, sizes, width=8, **kwargs):
        super().__init__(**kwargs)
        self.sizes = tuple(int(size) for size in sizes)
        self.width = width

    def build(self, input_shape):
        if input_shape[-1] != len(self.sizes):
            raise ValueError(f"ids must have {len(self.sizes)} columns, one for each of sizes. Received: {input_shape}")
        self.table = self.add_weight(  # one table for all columns: one look-up however many there are
            name="table", shape=(sum(self.sizes), self.width), initializer=keras.initializers.RandomNormal(stddev=1.0)
        )

    def call(self, ids):
        first = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype("int32")
        vectors = ops.take(self.table, ops.cast(ids, "int32") + first, axis=0)  # (batch, columns, width)
        return ops.reshape(vectors, (-1, len(self.sizes) * self.width))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], len(self.sizes) * self.width)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes, "width": self.width}
