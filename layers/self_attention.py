"""Multi-head self-attention with one matrix for queries, keys and values."""

import keras
from keras import ops

from recipes.layers.attention import attend, attend_cache, rotate


@keras.saving.register_keras_serializable("recipes")
class SelfAttention(keras.layers.Layer):
    """Lets every token of a sequence look at every other.

    Queries, keys and values come from one `Dense`, `qkv`, which is faster than three; `output` mixes the heads. There is
    no dropout of the attention itself, which would rule out fused kernels: drop out what comes after.

    Args:
        heads: Number of heads; must divide the width.
        causal: Whether a token sees only itself and what comes before it. Such a layer can decode: `start_cache`, then
            `decode` a few tokens at a time.
        locality: Whether a token does not see itself and each head learns its temperature, which begins at the usual
            `sqrt(width / heads)`: sharper attention, for networks trained on little data. With `causal` the first
            token still sees itself, because there is nothing else.
        stddev: Standard deviation of the normal initializer of the matrices. BERT, GPT-2 and ViT use 0.02.
        rotary: Whether queries and keys are turned by angles that grow with their place, which tells the layer how far
            apart two tokens are; the width of a head must be even.
        chunk: Tokens whose attention is computed at a time and computed again for the gradient, so that the memory of
            training grows with `length * chunk` and not with the square of the length; `None` for all at once, which is
            faster.
        output_stddev: Standard deviation for `output` alone; `None` for `stddev`. GPT-2 divides by the root of the number of
            residual branches.
        use_bias: Whether the two matrices have biases.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.
        padding_mask: Bool tensor of shape `(batch, length)`, true where a token is real: nobody sees the others.
            Optional. In a row of padding alone all tokens see each other, or if `causal` each itself.

    Returns:
        Float tensor of the shape of `tokens`.

    Example:

    >>> tuple(SelfAttention(heads=2)(np.zeros((2, 5, 8))).shape)
    (2, 5, 8)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.2; locality as
        [Lee et al., 2021](https://arxiv.org/abs/2112.13492), section 3.2; rotary as
        [Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2.
    """

    def __init__(
        self,
        heads,
        causal=False,
        locality=False,
        stddev=0.02,
        rotary=False,
        chunk=None,
        output_stddev=None,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1. Received: heads={heads}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, or None. Received: chunk={chunk}")
        self.heads = heads
        self.causal = causal
        self.locality = locality
        self.stddev = stddev
        self.rotary = rotary
        self.chunk = chunk
        self.output_stddev = output_stddev
        self.use_bias = use_bias

    def build(self, input_shape):
        width = input_shape[-1]
        if width % self.heads:
            raise ValueError(f"heads must divide the width, {width}. Received: heads={self.heads}")
        if self.rotary and width // self.heads % 2:
            raise ValueError(
                f"heads must divide the width, {width}, into even parts if rotary. Received: heads={self.heads}"
            )
        self.qkv = self._dense(3 * width, self.stddev, "qkv")
        self.qkv.build(input_shape)
        self.mix = self._dense(width, self.stddev if self.output_stddev is None else self.output_stddev, "output")
        self.mix.build(input_shape)
        if self.locality:
            usual = keras.initializers.Constant((width // self.heads) ** -0.5)
            self.scale = self.add_weight(name="scale", shape=(self.heads,), initializer=usual)

    def _dense(self, width, stddev, name):
        normal = keras.initializers.RandomNormal(stddev=stddev)
        return keras.layers.Dense(
            width, use_bias=self.use_bias, kernel_initializer=normal, dtype=self.dtype_policy, name=name
        )

    def call(self, tokens, padding_mask=None):
        query, key, value = self._project(tokens, 0)
        return self._mix(query, key, value, padding_mask=padding_mask, chunk=self.chunk)

    def start_cache(self, batch, length, dtype=None):
        """Return what `decode` remembers before the first token, room for `length` tokens in each of `batch` rows."""
        if not self.causal:
            raise ValueError(f"causal must be True to decode. Received: {self.name} with causal=False")
        size, dtype = self.qkv.units // 3 // self.heads, dtype or self.compute_dtype
        keys, values = (batch, self.heads, size, length), (batch, self.heads, length, size)
        return ops.zeros(keys, dtype), ops.zeros(values, dtype)

    def decode(self, tokens, cache, position, padding_mask=None):
        """Compute what `call` does for the tokens from `position` on, given the `cache` of those before.

        Args:
            tokens: Float tensor `(batch, n, width)`.
            cache: What `start_cache` or the last `decode` returned.
            position: Place of the first of the tokens, an integer or a scalar tensor.
            padding_mask: Not needed: padding stands on the right, where no earlier token looks.

        Returns:
            `(outputs, cache)`.
        """
        query, key, value = self._project(tokens, position)
        *past, last, start = cache if len(cache) == 4 else (cache, 0)
        last = _write(*last, position - start, ops.transpose(key, (0, 2, 3, 1)), ops.transpose(value, (0, 2, 1, 3)))
        cache = (*past, last, start) if past else last
        if isinstance(position, int) and position == 0:
            return self._mix(query, key, value), cache
        parts = [(*past[1], 0), (*last, start)] if past else [(*last, 0)]
        scale = 1.0 if self.locality else None
        mixed = attend_cache(query, parts, position=position, locality=self.locality, scale=scale)
        return self.mix(ops.reshape(mixed, (-1, tokens.shape[1], self.mix.units))), cache

    def fork_cache(self, cache, position, room):
        """Return a cache for `decode` that writes the tokens from `position` on to a part of their own, `room` of them."""
        keys, values = cache
        new = ops.zeros_like(keys[..., :room]), ops.zeros_like(values[:, :, :room])
        return cache, (keys[..., :position], values[:, :, :position]), new, position

    def join_cache(self, cache):
        """Return the cache that `fork_cache` was given, with what was written since."""
        whole, _, new, position = cache
        return _write(*whole, position, *new)

    def _project(self, tokens, position):
        length, width = ops.shape(tokens)[1], tokens.shape[-1]
        qkv = ops.reshape(self.qkv(tokens), (-1, length, 3, self.heads, width // self.heads))
        query, key, value = ops.unstack(qkv, 3, axis=2)  # (batch, length, heads, width / heads) each
        if self.rotary:
            query, key = rotate(query, position), rotate(key, position)
        if self.locality:
            query = query * ops.cast(self.scale, query.dtype)[:, None]
        return query, key, value

    def _mix(self, query, key, value, **arguments):
        scale = 1.0 if self.locality else None
        mixed = attend(query, key, value, causal=self.causal, locality=self.locality, scale=scale, **arguments)
        return self.mix(ops.reshape(mixed, (-1, ops.shape(query)[1], self.mix.units)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "causal": self.causal,
            "locality": self.locality,
            "stddev": self.stddev,
            "rotary": self.rotary,
            "chunk": self.chunk,
            "output_stddev": self.output_stddev,
            "use_bias": self.use_bias,
        }


def _write(keys, values, position, new_keys, new_values):
    """Return keys `(batch, heads, width, length)` and values `(batch, heads, length, width)` with new ones in them."""
    keys = ops.slice_update(keys, (0, 0, 0, position), ops.cast(new_keys, keys.dtype))
    return keys, ops.slice_update(values, (0, 0, position, 0), ops.cast(new_values, values.dtype))
