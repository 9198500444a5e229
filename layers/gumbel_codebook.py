"""A choice between codes that gradients pass through: the Gumbel-softmax relaxation, and the vectors of the codes."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class GumbelCodebook(keras.layers.Layer):
    """Chooses a code by its logits and puts out the vector learned for it.

    In training the choice is random and soft: with `g` drawn from Gumbel's distribution the codes get the shares
    `softmax((logits + g) / temperature)`, and the output is the mean of their vectors in these shares. The lower the
    temperature, the nearer is that to one code drawn with the probabilities `softmax(logits)`, and the rougher are the
    gradients. In inference the likeliest code is taken.

    Args:
        codes: Number of codes.
        width: Length of the vector of a code.

    Call arguments:
        logits: Float tensor `(batch, ..., codes)`.
        temperature: Float > 0, or a scalar tensor; of training alone.
        straight_through: Whether training puts out the vector of one code alone, with the gradient of the mean.

    Returns:
        Float tensor `(batch, ..., width)`.

    Example:

    >>> book = GumbelCodebook(codes=16, width=4)
    >>> tuple(book(np.zeros((2, 3, 3, 16)), temperature=0.5, training=True).shape)
    (2, 3, 3, 4)
    >>> tuple(book.look_up(np.array([[3, 15]])).shape)
    (1, 2, 4)

    Reference:
        [Jang et al., 2017](https://arxiv.org/abs/1611.01144), equations 1 and 2, section 2.2 for `straight_through`.
    """

    def __init__(self, codes, width, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})  # the shares need all digits of the logits
        for name, value in (("codes", codes), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        self.codes = codes
        self.width = width
        self.generator = keras.random.SeedGenerator()

    def build(self, input_shape):
        if input_shape[-1] != self.codes:
            raise ValueError(f"logits must have codes={self.codes} in their last axis. Received: shape {tuple(input_shape)}")
        self.embedding = self.add_weight(
            name="embedding", shape=(self.codes, self.width), initializer=keras.initializers.RandomNormal(stddev=1.0)
        )

    def call(self, logits, temperature=1.0, straight_through=False, training=False):
        if not training:
            return self.look_up(ops.argmax(logits, axis=-1))
        return self.mix(self.relax(logits, temperature, straight_through))

    def relax(self, logits, temperature, straight_through=False):
        """Draw the shares of the codes, of the shape and dtype of `logits`."""
        dtype = keras.backend.standardize_dtype(logits.dtype)
        dtype = "float64" if dtype == "float64" else "float32"
        uniform = keras.random.uniform(ops.shape(logits), minval=1e-7, maxval=1.0, dtype=dtype, seed=self.generator)
        # of the two logarithms the outer one must not see 0, which float32 makes of a uniform number near 1
        noise = -ops.log(ops.maximum(-ops.log(uniform), 1e-7))
        shares = ops.softmax((ops.cast(logits, dtype) + noise) / ops.cast(temperature, dtype), axis=-1)
        if straight_through:
            hard = ops.one_hot(ops.argmax(shares, axis=-1), self.codes, dtype=dtype)
            shares = ops.stop_gradient(hard - shares) + shares
        return shares

    def mix(self, shares):
        """Return the mean of the vectors of the codes in some shares `(batch, ..., codes)`: `(batch, ..., width)`."""
        return ops.matmul(ops.cast(shares, self.compute_dtype), ops.cast(self.embedding, self.compute_dtype))

    def look_up(self, ids):
        """Return the vectors of codes `(batch, ...)`: `(batch, ..., width)`."""
        return ops.take(ops.cast(self.embedding, self.compute_dtype), ids, axis=0)

    def compute_output_spec(self, logits, temperature=1.0, straight_through=False, training=False):
        return keras.KerasTensor((*logits.shape[:-1], self.width), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "codes": self.codes, "width": self.width}
