"""Residual networks: ResNet v1.5 for photographs and the CIFAR depths for small images."""

import keras

from recipes.training.recipe import builder, check_choice, check_classes, check_images, compile_model, head

# He et al., 2016, https://arxiv.org/abs/1512.03385: table 1 (18-152) and section 4.2 (CIFAR depths, 6n + 2 layers)
VARIANTS = {
    "18": {"block": "basic", "depths": (2, 2, 2, 2), "widths": (64, 128, 256, 512)},
    "34": {"block": "basic", "depths": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
    "50": {"block": "bottleneck", "depths": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
    "101": {"block": "bottleneck", "depths": (3, 4, 23, 3), "widths": (64, 128, 256, 512)},
    "152": {"block": "bottleneck", "depths": (3, 8, 36, 3), "widths": (64, 128, 256, 512)},
    "cifar20": {"block": "basic", "depths": (3, 3, 3), "widths": (16, 32, 64)},
    "cifar32": {"block": "basic", "depths": (5, 5, 5), "widths": (16, 32, 64)},
    "cifar44": {"block": "basic", "depths": (7, 7, 7), "widths": (16, 32, 64)},
    "cifar56": {"block": "basic", "depths": (9, 9, 9), "widths": (16, 32, 64)},
    "cifar110": {"block": "basic", "depths": (18, 18, 18), "widths": (16, 32, 64)},
}


@builder
def resnet(
    input_shape,
    num_classes,
    *,
    variant="cifar20",
    weights=None,
    stem=None,
    block=None,
    depths=None,
    widths=None,
    task="classify",
    dropout=0.0,
    label_smoothing=0.1,
    learning_rate=2e-3,
    weight_decay=0.05,
    name="resnet",
):
    """Build a residual network for images.

    Bottlenecks put the stride on the 3x3 convolution ("v1.5", as torchvision and timm do). Each residual branch starts
    at zero. Shortcuts that change shape are 1x1 convolutions.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"18"`, `"34"`, `"50"`, `"101"`, `"152"`, `"cifar20"` ... `"cifar110"`.
        weights: `None` for random weights; no file layout is supported for this family yet.
        stem: `"imagenet"` (7x7 convolution of stride 2 and max-pooling, a quarter of the size), `"cifar"` (3x3 of
            stride 1) or `None`: `"cifar"` up to 64 pixels, `"imagenet"` above.
        block: `"basic"` or `"bottleneck"`; `None` as the variant says.
        depths: Blocks of each stage; `None` as the variant says.
        widths: Channels of each stage, before the bottleneck's factor of 4; `None` as the variant says.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases and BatchNorm.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = resnet((28, 28, 1), 10)
    >>> model.count_params()
    272186

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1, section 4.2; zero-initialised branches and
        training as [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 5.1.
    """
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    check_choice("stem", stem, (None, "cifar", "imagenet"))
    if weights is not None:
        raise ValueError(
            f"weights must be None: resnet has no name map for foreign files yet. Received: weights={weights!r}"
        )
    row = VARIANTS[variant]
    block = block or row["block"]
    check_choice("block", block, ("basic", "bottleneck"))
    depths, widths = depths or row["depths"], widths or row["widths"]
    if len(depths) != len(widths):
        raise ValueError(f"depths and widths must have one number a stage. Received: depths={depths}, widths={widths}")
    stem = stem or ("cifar" if max(input_shape[:2]) <= 64 else "imagenet")
    residual_branch = {"basic": basic_branch, "bottleneck": bottleneck_branch}[block]

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(inputs)
    if stem == "cifar":
        x = conv_norm(x, widths[0], 3, 1, name="stem")
        x = keras.layers.Activation("relu", name="stem_relu")(x)
    else:
        x = conv_norm(x, widths[0], 7, 2, name="stem")
        x = keras.layers.Activation("relu", name="stem_relu")(x)
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # 0 is the least value after a ReLU
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)  # (batch, height / 4, width / 4, width)
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        for j in range(1, depth + 1):
            stride = 2 if i > 1 and j == 1 else 1
            x = residual_block(x, residual_branch, width, stride, name=f"stage{i}_block{j}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, channels)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    return compile_model(
        model,
        task,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        schedule="WarmupCosine",
        epochs=30,
        batch_size=128,
        augment="shift",
    )


def residual_block(x, residual_branch, width, stride, name):
    """Add a residual branch to its shortcut: `(batch, height / stride, width / stride, channels)`."""
    y = residual_branch(x, width, stride, name)
    if x.shape != y.shape:
        x = conv_norm(x, y.shape[-1], 1, stride, name=f"{name}_shortcut")
    x = keras.layers.Add(name=f"{name}_add")([x, y])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def basic_branch(x, width, stride, name):
    """Two 3x3 convolutions (figure 5, left)."""
    x = conv_norm(x, width, 3, stride, name=f"{name}_1")
    x = keras.layers.Activation("relu", name=f"{name}_1_relu")(x)
    return conv_norm(x, width, 3, 1, name=f"{name}_2", gamma="zeros")


def bottleneck_branch(x, width, stride, name):
    """1x1, 3x3 with the stride, 1x1 to four times the width (figure 5, right)."""
    x = conv_norm(x, width, 1, 1, name=f"{name}_1")
    x = keras.layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = conv_norm(x, width, 3, stride, name=f"{name}_2")
    x = keras.layers.Activation("relu", name=f"{name}_2_relu")(x)
    return conv_norm(x, 4 * width, 1, 1, name=f"{name}_3", gamma="zeros")


def conv_norm(x, filters, size, stride, name, gamma="ones"):
    """Convolution without bias, padded evenly as torch does, and BatchNorm with torch's momentum and epsilon."""
    if stride > 1 and size > 1:  # Keras' "same" would pad one side only
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=f"{name}_norm")(x)


def resnet_space(hp):
    """Return keyword arguments of `resnet` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    width, depth = hp.Choice("width", [16, 24, 32]), hp.Int("depth", 1, 3)
    return {
        "depths": (depth,) * 3,
        "widths": (width, 2 * width, 4 * width),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
