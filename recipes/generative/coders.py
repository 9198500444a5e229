"""The halves that autoencoders are made of: down to a small grid or a vector, and up again."""

import math

import keras


def grids(input_shape):
    """Return the sizes of an image while it is halved until a side has at most 8 pixels: `[(28, 28), (14, 14), (7, 7)]`."""
    height, width = input_shape[:2]
    count = max(1, math.ceil(math.log2(min(height, width) / 8)))
    return [(-(-height // 2**i), -(-width // 2**i)) for i in range(count + 1)]


def shrink(x, width, depth):
    """Halve images `(batch, height, width, channels)` as often as `grids` says; the channels double each time.

    Args:
        x: Images in -1..1.
        width: Channels after the first halving.
        depth: Residual blocks after each halving.

    Returns:
        `(batch, rows, columns, width * 2 ** (halvings - 1))`.
    """
    for i in range(len(grids(x.shape[1:])) - 1):
        if i:
            x = keras.layers.Activation("silu", name=f"down{i}_silu")(x)
        x = keras.layers.Conv2D(width << i, 4, 2, padding="same", name=f"down{i}_conv")(x)
        for k in range(depth):
            x = residual(x, f"down{i}_block{k}")
    return keras.layers.Activation("silu", name="down_silu")(x)


def grow(x, input_shape, width, depth):
    """Undo `shrink`: from its smallest grid to images.

    Args:
        x: `(batch, rows, columns, width * 2 ** (halvings - 1))`.
        input_shape: `(height, width, channels)` of the images.
        width, depth: As in `shrink`.

    Returns:
        `(batch, height, width, channels)`, float32.
    """
    sizes = grids(input_shape)
    for i in reversed(range(len(sizes) - 1)):
        for k in range(depth):
            x = residual(x, f"up{i}_block{k}")
        x = keras.layers.Activation("silu", name=f"up{i}_silu")(x)
        channels, dtype = (width << (i - 1), None) if i else (input_shape[2], "float32")
        x = keras.layers.Conv2DTranspose(channels, 4, 2, padding="same", dtype=dtype, name=f"up{i}_conv")(x)
        extra = [has - wants for has, wants in zip(x.shape[1:3], sizes[i], strict=True)]
        if any(extra):  # an odd side was rounded up
            x = keras.layers.Cropping2D([(0, extra[0]), (0, extra[1])], dtype=dtype, name=f"up{i}_crop")(x)
    return x


def residual(x, name):
    """Two convolutions beside a shortcut: `(batch, rows, columns, channels)`."""
    y = x
    for k in (1, 2):
        y = keras.layers.Activation("silu", name=f"{name}_silu{k}")(y)
        y = keras.layers.Conv2D(x.shape[-1], 3, padding="same", name=f"{name}_conv{k}")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def dense(x, width, depth, name):
    """Apply `depth` hidden layers of `width` units, named `{name}_dense{i}`: `(batch, width)`."""
    for i in range(depth):
        x = keras.layers.Dense(width, "silu", kernel_initializer="he_normal", name=f"{name}_dense{i}")(x)
    return x


def vector_encoder(input_shape, outputs, row, condition=None):
    """Build the network from data to a vector for each.

    Args:
        input_shape: Shape of an example.
        outputs: Length of the vector.
        row: Row of a builder's `VARIANTS`: `"width"`, `"depth"`, and whether it is `"dense"`.
        condition: What `label_vector` returned, or `None`.

    Returns:
        `keras.Model` named `"encoder"` from data, or `[data, label]`, to float32 `(batch, outputs)`.
    """
    data = x = keras.Input(input_shape, name="data")
    if not row["dense"]:
        x = shrink(x, row["width"], row["depth"])
    if len(input_shape) == 3:
        x = keras.layers.Flatten(name="flat")(x)
    x, inputs = _join(x, data, condition)
    if row["dense"]:
        x = dense(x, row["width"], row["depth"], "encoder")
    return keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32", name="code")(x), name="encoder")


def vector_decoder(input_shape, length, row, condition=None):
    """Build the network from a vector `(batch, length)` to data, float32; arguments as in `vector_encoder`."""
    code = keras.Input((length,), name="code")
    x, inputs = _join(code, code, condition)
    if row["dense"]:
        x = dense(x, row["width"], row["depth"], "decoder")
        x = keras.layers.Dense(math.prod(input_shape), dtype="float32", name="data")(x)
        if len(input_shape) == 3:
            x = keras.layers.Reshape(input_shape, dtype="float32", name="image")(x)
        return keras.Model(inputs, x, name="decoder")
    sizes = grids(input_shape)
    grid = (*sizes[-1], row["width"] << (len(sizes) - 2))
    x = keras.layers.Dense(math.prod(grid), name="grid")(x)
    x = keras.layers.Reshape(grid, name="grid_shape")(x)
    return keras.Model(inputs, grow(x, input_shape, row["width"], row["depth"]), name="decoder")


def _join(x, first, condition):
    """Return `x` beside the vector of the condition, and the inputs of the network."""
    if condition is None:
        return x, first
    ids, vector = condition
    return keras.layers.Concatenate(name="condition")([x, vector]), [first, ids]
