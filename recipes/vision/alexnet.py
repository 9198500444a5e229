"""AlexNet: five convolutions and three dense layers, as the paper of 2012 has them and as torchvision does."""

import keras

from recipes.layers import LocalResponseNorm
from recipes.training.recipe import (
    builder,
    check_choice,
    check_classes,
    check_count,
    check_fraction,
    check_images,
    compile_model,
    head,
    training_row,
)
from recipes.vision.pixels import IMAGENET, check_pretrained_channels, standard_pixels
from recipes.weights import load
from recipes.weights.alexnet_names import torch_names

# "2012": Krizhevsky et al., 2012, section 3 and figure 2; "torchvision": the single tower of Krizhevsky, 2014,
# https://arxiv.org/abs/1404.5997, footnote 1; "small": its shape at half the width, for small images
VARIANTS = {
    "small": {"widths": (32, 96, 192, 128, 128), "hidden": 512, "original": False},
    "torchvision": {"widths": (64, 192, 384, 256, 256), "hidden": 4096, "original": False},
    "2012": {"widths": (96, 256, 384, 384, 256), "hidden": 4096, "original": True},
}
KERNELS = (11, 5, 3, 3, 3)
GROUPS = (1, 2, 1, 2, 2)  # the two graphics cards of 2012: each half of the channels saw its own half
POOLED = (1, 2, 5)  # the convolutions that a max-pooling follows

# 2012: Krizhevsky et al., 2012, section 5. The paper divides the rate by 10 three times where the error stays; here it falls
# evenly to a thousandth. Its decay of 5e-4 is part of the gradient: with momentum .9 ten times as much beside the step.
TRAINING = {
    "default": {
        "learning_rate": 3e-4,
        "batch_size": 128,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "augment": "shift",
    },
    "2012": {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 5e-3,
        "label_smoothing": 0.0,
        "schedule": "WarmupExponential",
        "schedule_arguments": {"warmup": 0, "floor": 1e-3},
        "epochs": 90,
        "augment": "flip_shift",
    },
}


@builder
def alexnet(
    input_shape,
    num_classes,
    *,
    variant="small",
    weights=None,
    stem=None,
    widths=None,
    hidden=None,
    dropout=0.5,
    task="classify",
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="alexnet",
):
    """Build an AlexNet.

    `"torchvision"` computes what `torchvision.models.alexnet` does. `"2012"` has what that leaves out: the wider layers in
    two halves, response normalisation after the first two, and dropout after the dense layers, not before. Still other
    than in 2012: pixels are divided by their deviation, kernels start as He et al. proposed, and images of 224 pixels are
    padded by 2, which the paper's sizes need and its text omits.

    Args:
        input_shape: `(height, width, channels)`, at least 16 pixels a side, 95 with the stem of `"imagenet"`.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"small"`, `"torchvision"`, `"2012"`.
        weights: Path of a state dict of torchvision, or `None` for random weights. If the file's head has another number
            of classes, ours stays random and a warning says so.
        stem: `"imagenet"` (11x11 convolution of stride 4), `"cifar"` (5x5 of stride 1) or `None`: `"cifar"` up to 64
            pixels unless weights are given, else `"imagenet"`.
        widths: Channels of the five convolutions, even numbers; `None` as the variant says.
        hidden: Width of the two dense layers; `None` as the variant says.
        dropout: Fraction dropped at each of the two dense layers, in `[0, 1)`.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("alexnet")`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases; `None` as `training` says.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = alexnet((28, 28, 1), 10)
    >>> model.output_shape
    (None, 10)

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3 and figure 2;
        [Krizhevsky, 2014](https://arxiv.org/abs/1404.5997), footnote 1.
    """
    arguments = dict(locals())
    check_choice("stem", stem, (None, "cifar", "imagenet"))
    check_images(input_shape, minimum=95 if stem == "imagenet" else 16)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    check_pretrained_channels(input_shape, weights)
    if stem is None:  # the recipe must remember which: nobody passes weights when a saved model is built again
        small = max(input_shape[:2]) <= 64 and weights is None
        return alexnet(**{**arguments, "stem": "cifar" if small else "imagenet"})
    check_fraction("dropout", dropout)
    settings = training_row(
        TRAINING,
        training,
        label_smoothing=label_smoothing,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    row = VARIANTS[variant]
    widths, hidden, original = widths or row["widths"], hidden or row["hidden"], row["original"]
    check_count("hidden", hidden)
    if len(widths) != 5 or any(width < 2 or width % 2 for width in widths):
        raise ValueError(f"widths must be five even numbers. Received: widths={widths}")

    inputs = keras.Input(input_shape, name="image")
    x = standard_pixels(inputs, **IMAGENET)
    for k, (width, size, groups) in enumerate(zip(widths, KERNELS, GROUPS, strict=True), start=1):
        size, stride = (5, 1) if k == 1 and stem == "cifar" else (size, 4 if k == 1 else 1)
        x = keras.layers.ZeroPadding2D(2 if k == 1 else size // 2, name=f"conv{k}_pad")(x)
        x = keras.layers.Conv2D(
            width,
            size,
            stride,
            groups=groups if original else 1,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv{k}",
        )(x)
        if original and k <= 2:
            x = LocalResponseNorm(name=f"conv{k}_norm")(x)
        if k in POOLED:
            x = keras.layers.MaxPooling2D(3, 2, name=f"conv{k}_pool")(x)
    if stem == "imagenet" and x.shape[1:3] != (6, 6):  # never at 224 pixels
        x = keras.layers.AdaptiveAveragePooling2D(6, name="pool")(x)  # (batch, 6, 6, width)
    x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)  # so that torch's dense kernels fit
    x = keras.layers.Flatten(name="flatten")(x)
    for k in (1, 2):
        if not original:
            x = keras.layers.Dropout(dropout, name=f"dense{k}_dropout")(x)
        x = keras.layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name=f"dense{k}")(x)
        if original:
            x = keras.layers.Dropout(dropout, name=f"dense{k}_dropout")(x)
    x = keras.layers.Identity(name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load(model, weights, torch_names(model), optional_head=("logits", "target"))
    return compile_model(model, task, **settings)


def alexnet_space(hp):
    """Return keyword arguments of `alexnet` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    width = hp.Choice("width", [16, 32, 64])
    return {
        "widths": (width, 3 * width, 6 * width, 4 * width, 4 * width),
        "hidden": hp.Choice("hidden", [128, 512, 2048]),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
