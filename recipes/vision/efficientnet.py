"""EfficientNet for photographs, and EfficientNet-Lite, its form for phones; small images get a stem of stride 1."""

import math

import keras

from recipes.layers import DropPath
from recipes.training.recipe import (
    builder,
    check_choice,
    check_classes,
    check_fraction,
    check_images,
    compile_model,
    head,
)
from recipes.weights.efficientnet_names import load_weights

# Tan & Le, 2019, https://arxiv.org/abs/1905.11946, table 1: blocks, kernel, stride, expansion, channels of each stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
IMAGENET = {"lite": False, "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
LITE = {"lite": True, "mean": (127.0, 127.0, 127.0), "std": (128.0, 128.0, 128.0)}
# width, depth, native resolution, dropout: tensorflow/tpu, models/official/efficientnet/efficientnet_builder.py and
# lite/efficientnet_lite_builder.py; mean and std of the raw pixels are what their weights were trained with
VARIANTS = {
    "lite0": {"width": 1.0, "depth": 1.0, "resolution": 224, "dropout": 0.2, **LITE},
    "lite1": {"width": 1.0, "depth": 1.1, "resolution": 240, "dropout": 0.2, **LITE},
    "lite2": {"width": 1.1, "depth": 1.2, "resolution": 260, "dropout": 0.3, **LITE},
    "lite3": {"width": 1.2, "depth": 1.4, "resolution": 280, "dropout": 0.3, **LITE},
    "lite4": {"width": 1.4, "depth": 1.8, "resolution": 300, "dropout": 0.3, **LITE},
    "b0": {"width": 1.0, "depth": 1.0, "resolution": 224, "dropout": 0.2, **IMAGENET},
    "b1": {"width": 1.0, "depth": 1.1, "resolution": 240, "dropout": 0.2, **IMAGENET},
    "b2": {"width": 1.1, "depth": 1.2, "resolution": 260, "dropout": 0.3, **IMAGENET},
    "b3": {"width": 1.2, "depth": 1.4, "resolution": 300, "dropout": 0.3, **IMAGENET},
    "b4": {"width": 1.4, "depth": 1.8, "resolution": 380, "dropout": 0.4, **IMAGENET},
    "b5": {"width": 1.6, "depth": 2.2, "resolution": 456, "dropout": 0.4, **IMAGENET},
    "b6": {"width": 1.8, "depth": 2.6, "resolution": 528, "dropout": 0.5, **IMAGENET},
    "b7": {"width": 2.0, "depth": 3.1, "resolution": 600, "dropout": 0.5, **IMAGENET},
}


@builder
def efficientnet(
    input_shape,
    num_classes,
    *,
    variant="lite0",
    weights=None,
    stem=None,
    width=None,
    depth=None,
    dropout=None,
    drop_path=0.2,
    task="classify",
    label_smoothing=0.1,
    learning_rate=1e-3,
    weight_decay=0.05,
    name="efficientnet",
):
    """Build an EfficientNet or EfficientNet-Lite.

    Lite has no squeeze-and-excitation, ReLU6 instead of swish, and a stem, a top, and first and last stages that do not
    grow with the variant. Grey images are repeated to three channels inside the model, so the same weights fit.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side. Any size goes with any variant; the one that
            the weights were trained at is `VARIANTS[variant]["resolution"]`.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"lite0"` ... `"lite4"`, `"b0"` ... `"b7"`.
        weights: Path of a state dict of `efficientnet-lite-pytorch`, `efficientnet-pytorch` or timm
            (`tf_efficientnet_b0` ...), or `None` for random weights. If the file's head has another number of classes,
            ours stays random and a warning says so.
        stem: `"imagenet"` (stride 2; a 32nd of the size in the end), `"cifar"` (stride 1 in the stem and in the stage
            that would shrink the image next; an 8th in the end) or `None`: `"cifar"` up to 64 pixels unless weights
            are given, else `"imagenet"`.
        width: Factor of the number of channels; `None` as the variant says.
        depth: Factor of the number of blocks; `None` as the variant says.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`; `None` as the variant says.
        drop_path: Share of examples whose residual branch is dropped, in `[0, 1)`: grows from 0 to this at the top.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases and BatchNorm.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = efficientnet((32, 32, 3), 10, width=0.25)
    >>> model.output_shape
    (None, 10)

    Reference:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), table 1 and section 3.3; drop path as
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382).
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    check_choice("stem", stem, (None, "cifar", "imagenet"))
    if weights is not None and input_shape[2] not in (1, 3):
        raise ValueError(
            f"input_shape must have 3 channels, or 1 that is repeated, to fit the weights. Received: {input_shape=}. "
            "Drop the alpha channel, or pass weights=None."
        )
    if stem is None:  # the recipe must remember which: nobody passes weights when a saved model is built again
        small = max(input_shape[:2]) <= 64 and weights is None
        return efficientnet(**{**arguments, "stem": "cifar" if small else "imagenet"})
    row = VARIANTS[variant]
    width = row["width"] if width is None else width
    depth = row["depth"] if depth is None else depth
    for argument, factor in (("width", width), ("depth", depth)):
        if not 0 < factor < math.inf:
            raise ValueError(f"{argument} must be a number > 0. Received: {argument}={factor}")
    dropout = row["dropout"] if dropout is None else dropout
    check_fraction("dropout", dropout)
    check_fraction("drop_path", drop_path)
    lite, activation = row["lite"], "relu6" if row["lite"] else "silu"
    blocks = [block for stage in stage_blocks(width, depth, lite, stem) for block in stage]

    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Concatenate(name="rgb")([inputs] * 3) if input_shape[2] == 1 else inputs
    x = normalize(x, row["mean"], row["std"])
    x = conv_norm(x, 32 if lite else round_channels(32 * width), 3, 2 if stem == "imagenet" else 1, name="stem")
    x = keras.layers.Activation(activation, name="stem_activation")(x)  # (batch, height / 2, width / 2, 32)
    for i, block in enumerate(blocks):
        x = mbconv(x, *block, activation, not lite, drop_path * i / len(blocks), name=f"block{i}")
    x = conv_norm(x, 1280 if lite else round_channels(1280 * width), 1, 1, name="top")
    x = keras.layers.Activation(activation, name="top_activation")(x)  # (batch, height / 32, width / 32, 1280)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, 1280)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
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


def stage_blocks(width, depth, lite, stem):
    """Return `(kernel, stride, expansion, channels)` of each block of each stage."""
    stages = []
    for i, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
        if not (lite and i in (0, len(STAGES) - 1)):
            blocks = math.ceil(depth * blocks)
        if stem == "cifar" and i == 1:
            stride = 1
        channels = round_channels(width * channels)
        stages.append([(kernel, stride if j == 0 else 1, expansion, channels) for j in range(blocks)])
    return stages


def round_channels(channels):
    """Round to a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def normalize(x, mean, std):
    """Bring raw 0..255 to what the weights were trained with: `(x - mean) / std` a channel."""
    if x.shape[-1] != 3:  # no weights will fit; the mean of the channels will do
        mean, std = [sum(mean) / 3], [sum(std) / 3]
    scale, offset = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="rescale")(x)


def mbconv(x, kernel, stride, expansion, channels, activation, squeeze, drop_path, name):
    """Inverted bottleneck: widen, filter each channel, weigh channels (not in Lite), narrow; a shortcut if it fits."""
    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        x = conv_norm(x, expansion * width, 1, 1, name=f"{name}_expand")
        x = keras.layers.Activation(activation, name=f"{name}_expand_activation")(x)
    x = keras.layers.DepthwiseConv2D(
        kernel,
        stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_depthwise_conv",
    )(x)
    x = norm(x, name=f"{name}_depthwise")
    x = keras.layers.Activation(activation, name=f"{name}_depthwise_activation")(x)
    if squeeze:
        x = squeeze_excite(x, max(1, width // 4), activation, name=f"{name}_se")
    x = conv_norm(x, channels, 1, 1, name=f"{name}_project")
    if stride == 1 and channels == shortcut.shape[-1]:
        x = DropPath(drop_path, name=f"{name}_drop_path")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def squeeze_excite(x, width, activation, name):
    """Weigh each channel by what all pixels say together (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)  # (batch, 1, 1, channels)
    y = keras.layers.Conv2D(width, 1, activation=activation, name=f"{name}_reduce")(y)
    y = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_expand")(y)
    return keras.layers.Multiply(name=f"{name}_weigh")([x, y])


def conv_norm(x, filters, size, stride, name):
    """Convolution without bias and BatchNorm. "same" pads as TensorFlow does, and as the torch ports imitate."""
    x = keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)
    return norm(x, name)


def norm(x, name):
    """BatchNorm as in the reference."""
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)


def efficientnet_space(hp):
    """Return keyword arguments of `efficientnet` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Choice("width", [0.25, 0.5, 1.0]),
        "depth": hp.Choice("depth", [0.5, 1.0]),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "drop_path": hp.Float("drop_path", 0.0, 0.3, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
