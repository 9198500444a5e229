"""Residual networks: ResNet v1.5 and v1 for photographs, the CIFAR depths and Wide ResNet for small images."""

import keras

from recipes.layers import DropPath, FusedBatchNorm
from recipes.training.recipe import (
    builder,
    check_choice,
    check_classes,
    check_fraction,
    check_images,
    compile_model,
    head,
    training_row,
)
from recipes.vision.pixels import IMAGENET, check_pretrained_channels, standard_pixels
from recipes.weights.resnet_names import load_weights

PHOTO = {"widths": (64, 128, 256, 512), **IMAGENET}
# keras.applications: stride on the first 1x1 and biases. Its weights were trained on pixels less the mean, not divided;
# check_inputs wants numbers of size 1, so we divide by 64, which is exact, and the loader multiplies the first kernel.
V1 = {**PHOTO, "v1": True, "mean": (123.68, 116.779, 103.939), "std": (64.0, 64.0, 64.0)}
CIFAR = {"block": "basic", "widths": (16, 32, 64)}
# He et al., 2016, https://arxiv.org/abs/1512.03385: table 1 (18-152) and section 4.2 (CIFAR depths, 6n + 2 layers);
# D: He et al., 2019, https://arxiv.org/abs/1812.01187, figure 2; Wide ResNet: https://arxiv.org/abs/1605.07146, table 1
VARIANTS = {
    # ours: twice as wide as cifar20, at half the size from 16 pixels on, so that a step costs half as much on a CPU
    "compact": {"block": "basic", "depths": (1, 2, 2), "widths": (32, 64, 128), "small_stem": "pool"},
    "18": {"block": "basic", "depths": (2, 2, 2, 2), **PHOTO},
    "34": {"block": "basic", "depths": (3, 4, 6, 3), **PHOTO},
    "50": {"block": "bottleneck", "depths": (3, 4, 6, 3), **PHOTO},
    "101": {"block": "bottleneck", "depths": (3, 4, 23, 3), **PHOTO},
    "152": {"block": "bottleneck", "depths": (3, 8, 36, 3), **PHOTO},
    "50d": {"block": "bottleneck", "depths": (3, 4, 6, 3), "stem": "deep", "shortcut": "pool", **PHOTO},
    "50v1": {"block": "bottleneck", "depths": (3, 4, 6, 3), **V1},
    "101v1": {"block": "bottleneck", "depths": (3, 4, 23, 3), **V1},
    "152v1": {"block": "bottleneck", "depths": (3, 8, 36, 3), **V1},
    "cifar20": {"depths": (3, 3, 3), **CIFAR},
    "cifar32": {"depths": (5, 5, 5), **CIFAR},
    "cifar44": {"depths": (7, 7, 7), **CIFAR},
    "cifar56": {"depths": (9, 9, 9), **CIFAR},
    "cifar110": {"depths": (18, 18, 18), **CIFAR},
    "wide28x10": {"block": "preactivated", "depths": (4, 4, 4), "widths": (160, 320, 640), "stem_width": 16},
}

# Wightman et al., 2021, https://arxiv.org/abs/2110.00476, table 2; the clipping is that of timm's LAMB. A2 reaches 79.8 %,
# A1 80.4 %, A3 78.1 % on ImageNet with "50" at 224 pixels, A3 trained at 160. Rates are for these batch sizes: scale them
# in proportion for another.
RSB = {
    "optimizer": "lamb",
    "learning_rate": 5e-3,
    "batch_size": 2048,
    "weight_decay": 0.02,
    "global_clipnorm": 1.0,
    "loss": "binary",
    "label_smoothing": 0.0,
    "schedule": "WarmupCosine",
    "augment": "photo",
}
TRAINING = {
    "default": {
        "learning_rate": 2e-3,
        "batch_size": 128,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "drop_path": 0.0,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "augment": "shift",
    },
    "rsb_a1": {
        **RSB,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "drop_path": 0.05,
        "schedule_arguments": {"warmup": 5 / 600, "floor": 2e-4},
        "epochs": 600,
        "augment_arguments": {"magnitude": 7},
        "mix": {"mixup": 0.2, "cutmix": 1.0},
        "repeats": 3,
    },
    "rsb_a2": {
        **RSB,
        "drop_path": 0.05,
        "schedule_arguments": {"warmup": 5 / 300, "floor": 2e-4},
        "epochs": 300,
        "augment_arguments": {"magnitude": 7},
        "mix": {"mixup": 0.1, "cutmix": 1.0},
        "repeats": 3,
    },
    "rsb_a3": {
        **RSB,
        "learning_rate": 8e-3,
        "drop_path": 0.0,
        "schedule_arguments": {"warmup": 5 / 100, "floor": 1.25e-4},
        "epochs": 100,
        "augment_arguments": {"magnitude": 6},
        "mix": {"mixup": 0.1, "cutmix": 1.0},
    },
}


@builder
def resnet(
    input_shape,
    num_classes,
    *,
    variant="compact",
    weights=None,
    stem=None,
    block=None,
    depths=None,
    widths=None,
    shortcut=None,
    squeeze_excite=False,
    drop_path=None,
    dropout=0.0,
    task="classify",
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="resnet",
):
    """Build a residual network for images.

    Bottlenecks put the stride on the 3x3 convolution ("v1.5", as torchvision and timm do), those of the `v1` variants on
    the first 1x1 (as the paper and keras.applications do). Each residual branch that ends in BatchNorm starts at zero.
    Variants for photographs scale pixels as ImageNet weights expect, the others to [-1, 1].

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"compact"`, `"18"`, `"34"`, `"50"`, `"101"`, `"152"`, `"50d"`, `"50v1"`, `"101v1"`,
            `"152v1"`, `"cifar20"` ... `"cifar110"`, `"wide28x10"`.
        weights: Path of a state dict of torchvision, timm or transformers (`"50"`, `"50d"` ...), of an `.h5` or
            `.weights.h5` of keras.applications (`"50v1"` ...), `"owner/name@revision"` of the Hugging Face hub, or `None`
            for random weights. If the file's head has another number of classes, ours stays random and a warning says so.
        stem: `"imagenet"` (7x7 convolution of stride 2 and max-pooling, a quarter of the size), `"deep"` (three 3x3
            instead of the 7x7), `"cifar"` (3x3 of stride 1), `"pool"` (the same, then max-pooling, half of the size) or
            `None`: up to 64 pixels, unless weights are given, `"cifar"`, for `"compact"` from 16 pixels on `"pool"`;
            else as the variant says.
        block: `"basic"`, `"bottleneck"`, or `"preactivated"`, `"preactivated_bottleneck"`, in which BatchNorm and ReLU
            come before each convolution; `None` as the variant says.
        depths: Blocks of each stage; `None` as the variant says.
        widths: Channels of each stage, before the bottleneck's factor of 4; `None` as the variant says.
        shortcut: Where the size shrinks, `"convolution"` (1x1 of stride 2, which looks at a quarter of the pixels) or
            `"pool"` (2x2 averages, then 1x1: no aliasing); `None` as the variant says.
        squeeze_excite: Whether each branch ends in channel weights, a 16th as wide inside.
        drop_path: Share of examples whose residual branch is dropped, in `[0, 1)`: grows from 0 to this at the top;
            `None` as `training` says.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("resnet")`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases and BatchNorm; `None` as `training` says.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = resnet((28, 28, 1), 10)
    >>> model.count_params()
    679594

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1, section 4.2; pre-activation as
        [He et al., 2016](https://arxiv.org/abs/1603.05027), figure 4e; zero-initialised branches and training as
        [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 5.1.
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    row = VARIANTS[variant]
    check_choice("stem", stem, (None, "cifar", "pool", "imagenet", "deep"))
    check_pretrained_channels(input_shape, weights)
    if stem is None:  # the recipe must remember which: nobody passes weights when a saved model is built again
        stem = row.get("stem", "imagenet")
        if max(input_shape[:2]) <= 64 and weights is None:
            stem = row.get("small_stem", "cifar") if min(input_shape[:2]) >= 16 else "cifar"
        return resnet(**{**arguments, "stem": stem})
    block, shortcut = block or row["block"], shortcut or row.get("shortcut", "convolution")
    check_choice("block", block, ("basic", "bottleneck", "preactivated", "preactivated_bottleneck"))
    check_choice("shortcut", shortcut, ("convolution", "pool"))
    depths, widths = depths or row["depths"], widths or row["widths"]
    if len(depths) != len(widths):
        raise ValueError(f"depths and widths must have one number a stage. Received: depths={depths}, widths={widths}")
    if min(depths) < 1 or min(widths) < 1:
        raise ValueError(f"depths and widths must be at least 1. Received: depths={depths}, widths={widths}")
    settings = training_row(
        TRAINING,
        training,
        drop_path=drop_path,
        label_smoothing=label_smoothing,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    drop_path = settings.pop("drop_path")
    check_fraction("drop_path", drop_path)
    check_fraction("dropout", dropout)
    preactivated, v1 = block.startswith("preactivated"), row.get("v1", False)

    inputs = keras.Input(input_shape, name="image")
    if "mean" in row:
        x = standard_pixels(inputs, row["mean"], row["std"])
    else:
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(inputs)
    x = stem_layers(x, stem, row.get("stem_width", widths[0]), preactivated, v1)
    total, index = sum(depths), 0
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        for j in range(1, depth + 1):
            stride = 2 if i > 1 and j == 1 else 1
            branch = convolutions(block, width, stride, v1)
            rate = drop_path * index / max(1, total - 1)
            function = preactivated_block if preactivated else residual_block
            x = function(x, branch, stride, shortcut, squeeze_excite, rate, v1, name=f"stage{i}_block{j}")
            index += 1
    if preactivated:
        x = relu(norm(x, v1, name="top"), name="top_relu")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, channels)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
    return compile_model(model, task, **settings)


def stem_layers(x, stem, width, preactivated, v1):
    """The first convolutions: `(batch, height, width, width)`, or a quarter of the size unless `stem` is `"cifar"`."""
    if stem == "cifar" and preactivated:
        return conv(x, width, 3, 1, name="stem_conv")  # BatchNorm and ReLU are the first of the first block
    if stem == "deep":
        for k, stride in ((1, 2), (2, 1)):
            x = relu(conv_norm(x, width // 2, 3, stride, v1, name=f"stem_{k}"), name=f"stem_{k}_relu")
    size, stride = (7, 2) if stem == "imagenet" else (3, 1)
    x = relu(conv_norm(x, width, size, stride, v1, name="stem"), name="stem_relu")
    if stem == "cifar":
        return x
    if stem == "pool":
        return keras.layers.MaxPooling2D(2, name="stem_pool")(x)  # (batch, height / 2, width / 2, width)
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # 0 is the least value after a ReLU
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)  # (batch, height / 4, width / 4, width)


def convolutions(block, width, stride, v1):
    """Return `(filters, size, stride)` of each convolution of a branch (figure 5, left and right)."""
    if not block.endswith("bottleneck"):
        return [(width, 3, stride), (width, 3, 1)]
    return [(width, 1, stride if v1 else 1), (width, 3, 1 if v1 else stride), (4 * width, 1, 1)]


def residual_block(x, branch, stride, shortcut, squeeze, drop_path, v1, name):
    """Add a residual branch to its shortcut: `(batch, height / stride, width / stride, channels)`."""
    y = x
    for k, (filters, size, step) in enumerate(branch, start=1):
        last = k == len(branch)
        y = conv_norm(y, filters, size, step, v1, name=f"{name}_{k}", gamma="zeros" if last else "ones")
        y = y if last else relu(y, name=f"{name}_{k}_relu")
    y = finish_branch(y, squeeze, drop_path, name)
    if x.shape != y.shape:
        x, step = shrink(x, stride, shortcut, name)
        x = conv_norm(x, filters, 1, step, v1, name=f"{name}_shortcut")
    return relu(keras.layers.Add(name=f"{name}_add")([x, y]), name=f"{name}_relu")


def preactivated_block(x, branch, stride, shortcut, squeeze, drop_path, v1, name):
    """The same, each convolution after BatchNorm and ReLU; a shortcut that changes shape shares the first two."""
    y = x
    for k, (filters, size, step) in enumerate(branch, start=1):
        y = relu(norm(y, v1, name=f"{name}_{k}"), name=f"{name}_{k}_relu")
        if k == 1 and (stride > 1 or x.shape[-1] != branch[-1][0]):
            x, shortcut_stride = shrink(y, stride, shortcut, name)
            x = conv(x, branch[-1][0], 1, shortcut_stride, name=f"{name}_shortcut_conv")
        y = conv(y, filters, size, step, name=f"{name}_{k}_conv")
    y = finish_branch(y, squeeze, drop_path, name)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def finish_branch(x, squeeze, drop_path, name):
    """Weigh channels by what all pixels say together (https://arxiv.org/abs/1709.01507) and drop the path, if asked."""
    if squeeze:
        width = x.shape[-1]
        y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_pool")(x)  # (batch, 1, 1, channels)
        y = keras.layers.Conv2D(max(8, width // 16), 1, activation="relu", name=f"{name}_se_reduce")(y)
        y = keras.layers.Conv2D(width, 1, activation="sigmoid", name=f"{name}_se_expand")(y)
        x = keras.layers.Multiply(name=f"{name}_se_weigh")([x, y])
    return DropPath(drop_path, name=f"{name}_drop_path")(x) if drop_path else x


def shrink(x, stride, shortcut, name):
    """Return the input of the shortcut's 1x1 convolution, and its stride."""
    if stride == 1 or shortcut == "convolution":
        return x, stride
    return keras.layers.AveragePooling2D(2, 2, padding="same", name=f"{name}_shortcut_pool")(x), 1


def conv_norm(x, filters, size, stride, v1, name, gamma="ones"):
    """Convolution and BatchNorm."""
    return norm(conv(x, filters, size, stride, name=f"{name}_conv", use_bias=v1), v1, name, gamma)


def conv(x, filters, size, stride, name, use_bias=False):
    """Convolution padded evenly as torch and keras.applications do; Keras' "same" would pad one side only."""
    if stride > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name.removesuffix('_conv')}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="valid" if stride > 1 else "same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)


def norm(x, v1, name, gamma="ones"):
    """BatchNorm with torch's momentum and epsilon, or the epsilon of keras.applications."""
    epsilon = 1.001e-5 if v1 else 1e-5
    return FusedBatchNorm(momentum=0.9, epsilon=epsilon, gamma_initializer=gamma, name=f"{name}_norm")(x)


def relu(x, name):
    return keras.layers.Activation("relu", name=name)(x)


def resnet_space(hp):
    """Return keyword arguments of `resnet` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    width, depth = hp.Choice("width", [16, 24, 32]), hp.Int("depth", 1, 3)
    return {
        "depths": (depth,) * 3,
        "widths": (width, 2 * width, 4 * width),
        "squeeze_excite": hp.Boolean("squeeze_excite"),
        "drop_path": hp.Float("drop_path", 0.0, 0.2, step=0.1),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
