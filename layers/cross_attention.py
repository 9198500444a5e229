"""Multi-head attention of one sequence on another."""

import keras
from keras import ops

from recipes.layers.attention import attend


@keras.saving.register_keras_serializable("recipes")
class CrossAttention(keras.layers.Layer):
    """Lets every token of a sequence look at every token of a memory, such as what an encoder has made of a source.

    Queries come from the tokens by `query`, keys and values from the memory by one `Dense`, `key_value`; `output` mixes
    the heads. While a model writes token by token, the memory goes through `key_value` once. As in `SelfAttention` there is
    no dropout of the attention itself.

    Args:
        heads: Number of heads; must divide the width of the tokens.
        stddev: Standard deviation of the normal initializer of the matrices.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.
        memory: Float tensor of shape `(batch, memory length, memory width)`; `None`: the tokens themselves.
        padding_mask: Boolean tensor of shape `(batch, memory length)`, true where the memory is to be seen; `None`:
            everywhere. Where a row of the memory is padding alone, all of it is seen.

    Returns:
        Float tensor of the shape of `tokens`.

    Example:

    >>> tuple(CrossAttention(heads=2)(np.zeros((2, 5, 8)), np.zeros((2, 7, 6))).shape)
    (2, 5, 8)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.3.
    """

    def __init__(self, heads, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1. Received: heads={heads}")
        self.heads = heads
        self.stddev = stddev

    def build(self, tokens_shape, memory_shape=None):
        width = tokens_shape[-1]
        if width % self.heads:
            raise ValueError(f"heads must divide the width, {width}. Received: heads={self.heads}")

        def dense(units, name, shape):
            normal = keras.initializers.RandomNormal(stddev=self.stddev)
            layer = keras.layers.Dense(units, kernel_initializer=normal, dtype=self.dtype_policy, name=name)
            layer.build(shape)
            return layer

        self.query = dense(width, "query", tokens_shape)
        self.key_value = dense(2 * width, "key_value", memory_shape or tokens_shape)
        self.mix = dense(width, "output", tokens_shape)

    def call(self, tokens, memory=None, padding_mask=None):
        return self.look(tokens, *self.project(tokens if memory is None else memory), padding_mask)

    def project(self, memory):
        """Return the keys and the values of a memory: `(batch, memory length, heads, width / heads)` each."""
        return ops.unstack(self.split(self.key_value(memory), 2 * self.heads, (2, self.heads)), 2, axis=2)

    def look(self, tokens, key, value, padding_mask):
        """Return what `call` does, from keys and values that `project` has made."""
        query = self.split(self.query(tokens), self.heads, (self.heads,))
        mixed = attend(query, key, value, padding_mask=padding_mask)
        return self.mix(ops.reshape(mixed, (-1, *ops.shape(tokens)[1:])))

    def split(self, x, parts, shape):
        """Cut `(batch, length, parts * n)` into `(batch, length, *shape, n)`."""
        return ops.reshape(x, (-1, ops.shape(x)[1], *shape, x.shape[-1] // parts))

    def start_cache(self, batch, length, dtype):
        """Return the cache before the first token: keys and values come with the memory."""
        return ()

    def decode(self, tokens, cache, position, memory=None, padding_mask=None):
        """Return what `call` does and `(keys, values)`, which the first call makes."""
        cache = cache or tuple(self.project(memory))
        return self.look(tokens, *cache, padding_mask), cache

    def compute_output_shape(self, tokens_shape, memory_shape=None):
        return tokens_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "stddev": self.stddev}
