"""The networks of `recipes.diffusion`: from noisy data, the logarithm of the noise and a label to what is to be guessed."""

import keras

from recipes.layers import AdaptiveNorm, NoiseEmbedding, SelfAttention, SinCosPosition

GROUP = 16  # channels that the U-Net normalises together, as 32 groups of 512 do


def unet(data_shape, num_classes=None, *, width=64, depth=1, patch_size=1, dropout=0.0, name="network"):
    """Build a U-Net of residual blocks, with attention where the image is smallest.

    Each level has half the side and, but for the first, twice the width. There are as many as the sides can be halved
    until 8 or less, at least two if they can be halved at all.

    Args:
        data_shape: `(height, width, channels)`.
        num_classes: Number of classes, or `None`. Label `num_classes` stands for "no class told".
        width: Channels of the first level, a multiple of 16.
        depth: Residual blocks of a level on the way down, and again on the way up.
        patch_size: Side of the patches that the first level sees as one place each; must divide both sides.
        dropout: Fraction dropped in each residual block, in `[0, 1)`.
        name: Name of the model.

    Returns:
        `keras.Model` of `{"data": (batch, height, width, channels), "noise": (batch,), "label": (batch,)}`; `"label"` only
        with classes. It puts out float32 `(batch, height, width, channels)`, zeros at first.

    Example:

    >>> network = unet((8, 8, 1), width=32)
    >>> network.output_shape
    (None, 8, 8, 1)

    Reference:
        [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B; scale and shift of the norms from the condition as
        [Dhariwal & Nichol, 2021](https://arxiv.org/abs/2105.05233), section 3; patches as
        [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), section 3.2.
    """
    inputs, condition = begin(data_shape, num_classes, 4 * width)
    x = patches(inputs["data"], width, patch_size)
    kept, levels = [], count_levels(x.shape[1:3])
    for level in range(levels):
        channels = width if level == 0 else 2 * width
        if level:
            x = conv(x, channels, 3, f"down{level}", strides=2)
        for i in range(depth):
            x = residual_block(x, condition, channels, dropout, f"down{level}_block{i}")
            x = attention_block(x, condition, f"down{level}_attention{i}") if level == levels - 1 else x
        kept.append(x)
    x = residual_block(x, condition, x.shape[-1], dropout, "middle_block0")
    for level in reversed(range(levels)):
        x = keras.layers.Concatenate(name=f"up{level}_join")([x, kept[level]])
        for i in range(depth):
            x = residual_block(x, condition, width if level == 0 else 2 * width, dropout, f"up{level}_block{i}")
        if level:
            x = keras.layers.UpSampling2D(2, name=f"up{level}_upsample")(x)
            x = conv(x, width if level == 1 else 2 * width, 3, f"up{level}_conv")
    x = AdaptiveNorm(x.shape[-1] // GROUP, name="norm")(x)
    x = keras.layers.Activation("silu", name="features")(x)
    return keras.Model(inputs, image(x, data_shape, patch_size, 3), name=name)


def transformer(data_shape, num_classes=None, *, width=128, depth=6, patch_size=2, dropout=0.0, name="network"):
    """Build a diffusion transformer: patches as tokens, blocks whose norms and branches the condition steers.

    Args:
        data_shape: `(height, width, channels)`.
        num_classes: Number of classes, or `None`. Label `num_classes` stands for "no class told".
        width: Length of a token's vector, a multiple of 16.
        depth: Number of blocks.
        patch_size: Side of a patch; must divide both sides.
        dropout: Fraction dropped of each branch, in `[0, 1)`.
        name: Name of the model.

    Returns:
        `keras.Model` as that of `unet`.

    Example:

    >>> network = transformer((8, 8, 1), num_classes=10, width=32, depth=1)
    >>> network.output_shape
    (None, 8, 8, 1)

    Reference:
        [Peebles & Xie, 2023](https://arxiv.org/abs/2212.09748), section 3.2 ("adaLN-Zero").
    """
    inputs, condition = begin(data_shape, num_classes, width)
    x = patches(inputs["data"], width, patch_size)
    grid = x.shape[1:3]
    x = keras.layers.Reshape((grid[0] * grid[1], width), name="tokens")(x)  # (batch, length, width)
    x = SinCosPosition(grid, name="position")(x)
    for i in range(depth):
        y = adaptive_norm(x, condition, f"block{i}_norm1")
        y = SelfAttention(heads(width), stddev=width**-0.5, name=f"block{i}_attention")(y)
        x = gated(x, y, condition, dropout, f"block{i}", 1)
        y = adaptive_norm(x, condition, f"block{i}_norm2")
        y = keras.layers.Dense(4 * width, "gelu", name=f"block{i}_mlp1")(y)
        y = keras.layers.Dense(width, name=f"block{i}_mlp2")(y)
        x = gated(x, y, condition, dropout, f"block{i}", 2)
    x = adaptive_norm(x, condition, "norm")
    x = keras.layers.Reshape((*grid, width), name="features")(x)
    return keras.Model(inputs, image(x, data_shape, patch_size, 1), name=name)


def dense(data_shape, num_classes=None, *, width=128, depth=3, dropout=0.0, name="network"):
    """Build residual dense blocks for vectors.

    Args:
        data_shape: `(features,)`.
        num_classes: Number of classes, or `None`. Label `num_classes` stands for "no class told".
        width: Units of a layer, even.
        depth: Number of blocks.
        dropout: Fraction dropped in each block, in `[0, 1)`.
        name: Name of the model.

    Returns:
        `keras.Model` as that of `unet`, with vectors `(batch, features)`.

    Example:

    >>> dense((2,), width=32).output_shape
    (None, 2)
    """
    inputs, condition = begin(data_shape, num_classes, width)
    x = keras.layers.Dense(width, name="stem")(inputs["data"])
    for i in range(depth):
        y = adaptive_norm(x, condition, f"block{i}_norm")
        y = keras.layers.Dense(width, "silu", kernel_initializer="he_normal", name=f"block{i}_dense1")(y)
        y = drop(y, dropout, f"block{i}")
        y = keras.layers.Dense(width, kernel_initializer="zeros", name=f"block{i}_dense2")(y)
        x = keras.layers.Add(name=f"block{i}_add")([x, y])
    x = keras.layers.Activation("silu", name="features")(adaptive_norm(x, condition, "norm"))
    x = keras.layers.Dense(data_shape[0], kernel_initializer="zeros", dtype="float32", name="output")(x)
    return keras.Model(inputs, x, name=name)


def begin(data_shape, num_classes, width):
    """Return the inputs, and the vector `(batch, width)` of noise and label that the blocks are steered by."""
    inputs = {"data": keras.Input(data_shape, name="data"), "noise": keras.Input((), name="noise")}
    x = NoiseEmbedding(64, dtype="float32", name="noise_waves")(inputs["noise"])
    x = keras.layers.Dense(width, "silu", name="noise_dense1")(x)
    x = keras.layers.Dense(width, name="noise_dense2")(x)
    if num_classes is not None:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        # as large as the vector of the noise: from Keras' small numbers classes are told apart much later
        normal = keras.initializers.RandomNormal(stddev=1.0)
        label = keras.layers.Embedding(num_classes + 1, width, normal, name="label_embedding")(inputs["label"])
        x = keras.layers.Add(name="condition")([x, label])
    return inputs, keras.layers.Activation("silu", name="condition_silu")(x)


def residual_block(x, condition, channels, dropout, name):
    """Two convolutions, each after norm and SiLU, with a residual: `(batch, height, width, channels)`."""
    y = keras.layers.Activation("silu", name=f"{name}_silu1")(AdaptiveNorm(x.shape[-1] // GROUP, name=f"{name}_norm1")(x))
    y = conv(y, channels, 3, f"{name}_conv1")
    y = keras.layers.Activation("silu", name=f"{name}_silu2")(
        adaptive_norm(y, condition, f"{name}_norm2", channels // GROUP)
    )
    y = drop(y, dropout, name)
    y = conv(y, channels, 3, f"{name}_conv2", zero=True)
    if x.shape[-1] != channels:
        x = conv(x, channels, 1, f"{name}_shortcut")
    return keras.layers.Add(name=f"{name}_add")([x, y])


def attention_block(x, condition, name):
    """Let all places see each other, with a residual: `(batch, height, width, channels)`."""
    height, width, channels = x.shape[1:]
    y = adaptive_norm(x, condition, f"{name}_norm", channels // GROUP)
    y = keras.layers.Reshape((height * width, channels), name=f"{name}_tokens")(y)
    y = SelfAttention(heads(channels), stddev=channels**-0.5, output_stddev=0.0, name=f"{name}_attention")(y)
    y = keras.layers.Reshape((height, width, channels), name=f"{name}_image")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def heads(width):
    """Return the number of heads of attention: of 32 channels each, or of 16 where these do not fit."""
    return width // (32 if width % 32 == 0 else 16)


def adaptive_norm(x, condition, name, groups=None):
    """Normalise `x`; scale and shift come from the condition and are none at first."""
    modulation = keras.layers.Dense(2 * x.shape[-1], kernel_initializer="zeros", name=f"{name}_modulation")(condition)
    return AdaptiveNorm(groups, name=name)(x, modulation)


def gated(x, y, condition, dropout, name, number):
    """Add the branch `y` to tokens `x`, times a factor for each channel from the condition, 0 at first."""
    gate = keras.layers.Dense(x.shape[-1], kernel_initializer="zeros", name=f"{name}_gate{number}")(condition)
    gate = keras.layers.Reshape((1, x.shape[-1]), name=f"{name}_gate{number}_token")(gate)
    y = keras.layers.Multiply(name=f"{name}_gated{number}")([drop(y, dropout, f"{name}_{number}"), gate])
    return keras.layers.Add(name=f"{name}_add{number}")([x, y])


def drop(x, dropout, name):
    """Drop out a fraction of `x`; without any there is no layer."""
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x


def conv(x, channels, size, name, *, strides=1, zero=False):
    """Convolve; `zero` kernels let a branch begin as nothing."""
    kernel = "zeros" if zero else "lecun_normal"
    return keras.layers.Conv2D(channels, size, strides, padding="same", kernel_initializer=kernel, name=name)(x)


def patches(x, width, patch_size):
    """Turn pixels, or patches of them, into vectors: `(batch, height / patch_size, width / patch_size, width)`."""
    return conv(x, width, patch_size if patch_size > 1 else 3, "stem", strides=patch_size)


def image(x, data_shape, patch_size, size):
    """Turn vectors into the pixels of their patch, zeros at first: float32 `(batch, *data_shape)`."""
    height, width, channels = data_shape
    rows, columns = x.shape[1:3]
    x = keras.layers.Conv2D(
        patch_size**2 * channels, size, padding="same", kernel_initializer="zeros", dtype="float32", name="output"
    )(x)
    if patch_size == 1:
        return x
    exact = {"dtype": "float32"}  # or the policy's dtype would round what the convolution put out
    x = keras.layers.Reshape((rows, columns, patch_size, patch_size * channels), **exact, name="output_patches")(x)
    # to (batch, rows, patch_size, columns, patch_size * channels)
    x = keras.layers.Permute((1, 3, 2, 4), **exact, name="output_rows")(x)
    return keras.layers.Reshape((height, width, channels), **exact, name="output_image")(x)


def count_levels(sides):
    """Return how many levels a U-Net has whose first is of these sides."""
    levels, (height, width) = 1, sides
    while height % 2 == 0 and width % 2 == 0 and (levels == 1 or max(height, width) > 8):
        levels, height, width = levels + 1, height // 2, width // 2
    return levels
