"""The blocks that the transformers share: ViT, BERT, GPT."""

import keras

from recipes.layers import DropPath, LayerScale, SelfAttention


def transformer_block(
    x,
    heads,
    mlp_dim,
    name,
    *,
    padding_mask=None,
    dropout=0.0,
    drop_path=0.0,
    layer_scale=None,
    epsilon=1e-6,
    causal=False,
    locality=False,
    rotary=False,
    chunk=None,
    activation="gelu",
    stddev=0.02,
    output_stddev=None,
    use_bias=True,
):
    """Pre-norm attention and MLP, each with a residual: `(batch, length, width)`.

    Args:
        x: Tokens `(batch, length, width)`.
        heads: Number of heads of the attention; must divide the width.
        mlp_dim: Width of the hidden layer of the MLP.
        name: Prefix of the names of the layers.
        padding_mask: Bool `(batch, length)`, true where a token is real, or `None`: all are.
        dropout: Fraction dropped of what either branch puts out, in `[0, 1)`.
        drop_path: Share of examples whose branch is dropped, in `[0, 1)`.
        layer_scale: What the learned factors of each branch start with, or `None` for none.
        epsilon: Of the layer normalisations: ViT 1e-6, GPT-2 1e-5.
        causal, locality, rotary, chunk: As in `SelfAttention`.
        activation: Of the MLP. Keras' `"gelu"` is the exact one; `"quick_gelu"` is `quick_gelu`, `"gelu_tanh"` `gelu_tanh`.
        stddev: Standard deviation of the initial matrices.
        output_stddev: That of the last matrix of either branch; `None` for `stddev`.
        use_bias: Whether matrices and normalisations have biases.

    Returns:
        Tokens `(batch, length, width)`.

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), equations 2 and 3.
    """
    attention = {"causal": causal, "locality": locality, "rotary": rotary, "chunk": chunk, "use_bias": use_bias}
    matrices = {"stddev": stddev, "output_stddev": output_stddev}
    y = keras.layers.LayerNormalization(epsilon=epsilon, center=use_bias, name=f"{name}_norm1")(x)
    y = see(SelfAttention(heads, **attention, **matrices, name=f"{name}_attention"), y, padding_mask)
    x = add_branch(x, y, dropout, drop_path, name, 1, layer_scale)
    y = keras.layers.LayerNormalization(epsilon=epsilon, center=use_bias, name=f"{name}_norm2")(x)
    y = mlp_branch(y, mlp_dim, activation, name, use_bias=use_bias, **matrices)
    return add_branch(x, y, dropout, drop_path, name, 2, layer_scale)


def post_norm_block(
    x,
    heads,
    mlp_dim,
    name,
    *,
    padding_mask=None,
    dropout=0.0,
    epsilon=1e-12,
    causal=False,
    rotary=False,
    chunk=None,
    activation="gelu",
    stddev=0.02,
):
    """Attention and MLP, each with a residual and a norm after it, as in BERT: `(batch, length, width)`.

    Args:
        x, heads, mlp_dim, name, padding_mask, dropout, causal, rotary, chunk, activation, stddev: As in
            `transformer_block`, with the same names of layers.
        epsilon: Of the layer normalisations: BERT 1e-12, the Transformer 1e-6.

    Returns:
        Tokens `(batch, length, width)`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1.
    """
    arguments = {"causal": causal, "rotary": rotary, "chunk": chunk, "stddev": stddev}
    y = see(SelfAttention(heads, **arguments, name=f"{name}_attention"), x, padding_mask)
    x = add_branch(x, y, dropout, 0.0, name, 1)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm1")(x)
    x = add_branch(x, mlp_branch(x, mlp_dim, activation, name, stddev=stddev), dropout, 0.0, name, 2)
    return keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm2")(x)


def see(attention, x, padding_mask):
    """Call a layer of attention on `x`, with a mask if there is one."""
    return attention(x) if padding_mask is None else attention(x, padding_mask)


def mlp_branch(x, mlp_dim, activation, name, *, stddev=0.02, output_stddev=None, use_bias=True):
    """Two matrices with a nonlinearity between: `(batch, length, width)`."""
    normal = keras.initializers.RandomNormal
    own = {"quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}
    activation = own[activation] if isinstance(activation, str) and activation in own else activation
    last = stddev if output_stddev is None else output_stddev
    y = keras.layers.Dense(
        mlp_dim, activation, use_bias=use_bias, kernel_initializer=normal(stddev=stddev), name=f"{name}_mlp1"
    )(x)
    return keras.layers.Dense(x.shape[-1], use_bias=use_bias, kernel_initializer=normal(stddev=last), name=f"{name}_mlp2")(y)


def add_branch(x, y, dropout, drop_path, name, number, layer_scale=None):
    """Add a residual branch `y` to `x`; without dropout, drop path or layer scale there are no layers for them."""
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_dropout{number}")(y)
    if layer_scale is not None:
        y = LayerScale(layer_scale, name=f"{name}_scale{number}")(y)
    if drop_path:
        y = DropPath(drop_path, name=f"{name}_drop_path{number}")(y)
    return keras.layers.Add(name=f"{name}_add{number}")([x, y])


@keras.saving.register_keras_serializable("recipes")
def quick_gelu(x):
    """Return `x * sigmoid(1.702 x)`, the approximation of GELU that OpenAI trained CLIP with."""
    return x * keras.ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable("recipes")
def gelu_tanh(x):
    """Return GELU by a hyperbolic tangent, the approximation that GPT-2 was trained with."""
    return keras.ops.gelu(x, approximate=True)
