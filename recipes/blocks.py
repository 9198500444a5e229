"""The block that the transformers share: ViT, BERT, GPT."""

import keras

from recipes.layers import DropPath, SelfAttention


def transformer_block(
    x,
    heads,
    mlp_dim,
    name,
    *,
    dropout=0.0,
    drop_path=0.0,
    epsilon=1e-6,
    causal=False,
    locality=False,
    activation="gelu",
    stddev=0.02,
):
    """Pre-norm attention and MLP, each with a residual: `(batch, length, width)`.

    Args:
        x: Tokens `(batch, length, width)`.
        heads: Number of heads of the attention; must divide the width.
        mlp_dim: Width of the hidden layer of the MLP.
        name: Prefix of the names of the layers.
        dropout: Fraction dropped of what either branch puts out, in `[0, 1)`.
        drop_path: Share of examples whose branch is dropped, in `[0, 1)`.
        epsilon: Of the layer normalisations: ViT 1e-6, GPT-2 1e-5.
        causal, locality: As in `SelfAttention`.
        activation: Of the MLP. Keras' `"gelu"` is the exact one; `"quick_gelu"` is `quick_gelu`.
        stddev: Standard deviation of the initial matrices.

    Returns:
        Tokens `(batch, length, width)`.

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), equations 2 and 3.
    """
    normal = keras.initializers.RandomNormal
    activation = quick_gelu if activation == "quick_gelu" else activation
    y = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm1")(x)
    y = SelfAttention(heads, causal, locality, stddev, name=f"{name}_attention")(y)
    x = add_branch(x, y, dropout, drop_path, name, 1)
    y = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm2")(x)
    y = keras.layers.Dense(mlp_dim, activation, kernel_initializer=normal(stddev=stddev), name=f"{name}_mlp1")(y)
    y = keras.layers.Dense(x.shape[-1], kernel_initializer=normal(stddev=stddev), name=f"{name}_mlp2")(y)
    return add_branch(x, y, dropout, drop_path, name, 2)


def add_branch(x, y, dropout, drop_path, name, number):
    """Add a residual branch `y` to `x`; without dropout or drop path there are no layers for them."""
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{name}_dropout{number}")(y)
    if drop_path:
        y = DropPath(drop_path, name=f"{name}_drop_path{number}")(y)
    return keras.layers.Add(name=f"{name}_add{number}")([x, y])


@keras.saving.register_keras_serializable("recipes")
def quick_gelu(x):
    """Return `x * sigmoid(1.702 x)`, the approximation of GELU that OpenAI trained CLIP with."""
    return x * keras.ops.sigmoid(1.702 * x)
