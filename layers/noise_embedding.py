"""How noisy an example is, as a vector."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class NoiseEmbedding(keras.layers.Layer):
    """Turns a number, the logarithm of the noise, into sines and cosines of many frequencies; nothing is learned.

    It computes in float32 whatever its policy. Give it `dtype="float32"` where the policy is mixed: the number itself must
    not lose its digits.

    Args:
        width: Length of the vector, even.
        lowest: Lowest frequency, in radians a unit: `2 * pi / lowest` should be longer than the range of the numbers.
        highest: Highest frequency: how near two numbers may be that must be told apart.

    Call arguments:
        values: Float tensor of shape `(batch,)`.

    Returns:
        Float tensor of shape `(batch, width)`.

    Example:

    >>> tuple(NoiseEmbedding(8)(np.log([0.002, 1.0, 80.0])).shape)
    (3, 8)

    Reference:
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B, has the waves, of the number of the step; the
        logarithm of the noise in its place is that of [Karras et al., 2022](https://arxiv.org/abs/2206.00364), table 1.
    """

    def __init__(self, width, lowest=0.25, highest=16.0, **kwargs):
        super().__init__(**kwargs)
        if width < 4 or width % 2:
            raise ValueError(f"width must be an even number, at least 4. Received: width={width}")
        if not 0 < lowest < highest:
            raise ValueError(f"lowest must be in (0, highest). Received: lowest={lowest}, highest={highest}")
        self.width = width
        self.lowest = lowest
        self.highest = highest

    def call(self, values):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        angles = ops.cast(values, dtype)[..., None] * np.geomspace(self.lowest, self.highest, self.width // 2).astype(dtype)
        return ops.cast(ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "lowest": self.lowest, "highest": self.highest}
