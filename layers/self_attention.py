"""Multi-head self-attention with one matrix for queries, keys and values."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class SelfAttention(keras.layers.Layer):
    """Lets every token of a sequence look at every other.

    Queries, keys and values come from one `Dense`, `qkv`, which is faster than three; `output` mixes the heads. There is
    no dropout of the attention itself, which would rule out fused kernels: drop out what comes after.

    Args:
        heads: Number of heads; must divide the width.
        causal: Whether a token sees only itself and what comes before it.
        locality: Whether a token does not see itself and each head learns its temperature, which begins at the usual
            `sqrt(width / heads)`: sharper attention, for networks trained on little data. With `causal` the first
            token still sees itself, because there is nothing else.
        stddev: Standard deviation of the normal initializer of the matrices. BERT, GPT-2 and ViT use 0.02.

    Call arguments:
        tokens: Float tensor of shape `(batch, length, width)`.

    Returns:
        Float tensor of the shape of `tokens`.

    Example:

    >>> tuple(SelfAttention(heads=2)(np.zeros((2, 5, 8))).shape)
    (2, 5, 8)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.2; locality as
        [Lee et al., 2021](https://arxiv.org/abs/2112.13492), section 3.2.
    """

    def __init__(self, heads, causal=False, locality=False, stddev=0.02, **kwargs):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1. Received: heads={heads}")
        self.heads = heads
        self.causal = causal
        self.locality = locality
        self.stddev = stddev

    def build(self, input_shape):
        width = input_shape[-1]
        if width % self.heads:
            raise ValueError(f"heads must divide the width, {width}. Received: heads={self.heads}")
        normal = keras.initializers.RandomNormal
        self.qkv = keras.layers.Dense(
            3 * width, kernel_initializer=normal(stddev=self.stddev), dtype=self.dtype_policy, name="qkv"
        )
        self.qkv.build(input_shape)
        self.mix = keras.layers.Dense(
            width, kernel_initializer=normal(stddev=self.stddev), dtype=self.dtype_policy, name="output"
        )
        self.mix.build(input_shape)
        if self.locality:
            usual = keras.initializers.Constant((width // self.heads) ** -0.5)
            self.scale = self.add_weight(name="scale", shape=(self.heads,), initializer=usual)

    def call(self, tokens):
        length, width = ops.shape(tokens)[1], tokens.shape[-1]
        qkv = ops.reshape(self.qkv(tokens), (-1, length, 3, self.heads, width // self.heads))
        query, key, value = ops.unstack(qkv, 3, axis=2)  # (batch, length, heads, width / heads) each
        if self.locality:
            query = query * ops.cast(self.scale, query.dtype)[:, None]
            places = ops.arange(length)
            rows = places[:, None]
            seen = (rows > places) | (rows + places == 0) if self.causal else rows != places  # (length, length)
            mixed = ops.dot_product_attention(query, key, value, mask=seen[None, None], scale=1.0)
        else:
            mixed = ops.dot_product_attention(query, key, value, is_causal=self.causal)
        return self.mix(ops.reshape(mixed, (-1, length, width)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "causal": self.causal,
            "locality": self.locality,
            "stddev": self.stddev,
        }
