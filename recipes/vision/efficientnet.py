"""EfficientNet and EfficientNetV2 for photographs, and Lite, for phones; small images get a stem of stride 1."""

import math

import keras

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
from recipes.vision.efficientnet_blocks import conv_norm, fused_mbconv, mbconv
from recipes.vision.pixels import IMAGENET, check_pretrained_channels, standard_pixels
from recipes.weights.efficientnet_names import load_weights

# Blocks, kernel, stride, expansion, channels of each stage. Tan & Le, 2019, https://arxiv.org/abs/1905.11946, table 1
V1_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Tan & Le, 2021, https://arxiv.org/abs/2104.00298, table 4 (of S), and google/automl, efficientnetv2/effnetv2_configs.py;
# the first three stages have fused blocks
V2_BASE = ((1, 3, 1, 1, 16), (2, 3, 2, 4, 32), (2, 3, 2, 4, 48), (3, 3, 2, 4, 96), (5, 3, 1, 6, 112), (8, 3, 2, 6, 192))
V2_S = ((2, 3, 1, 1, 24), (4, 3, 2, 4, 48), (4, 3, 2, 4, 64), (6, 3, 2, 4, 128), (9, 3, 1, 6, 160), (15, 3, 2, 6, 256))
V2_M = (
    *((3, 3, 1, 1, 24), (5, 3, 2, 4, 48), (5, 3, 2, 4, 80), (7, 3, 2, 4, 160)),
    *((14, 3, 1, 6, 176), (18, 3, 2, 6, 304), (5, 3, 1, 6, 512)),
)
V2_L = (
    *((4, 3, 1, 1, 32), (7, 3, 2, 4, 64), (7, 3, 2, 4, 96), (10, 3, 2, 4, 192)),
    *((19, 3, 1, 6, 224), (25, 3, 2, 6, 384), (7, 3, 1, 6, 640)),
)
# fused: how many stages; round: how much of its channels a layer keeps at least where they become a multiple of 8; momentum
# of BatchNorm; mean and std: of the raw pixels, what the weights were trained with
V1 = {"stages": V1_STAGES, "fused": 0, "stem": 32, "round": 0.9, "momentum": 0.99, "lite": False, **IMAGENET}
LITE = {**V1, "lite": True, "mean": (127.0, 127.0, 127.0), "std": (128.0, 128.0, 128.0)}
V2_B = {"stages": V2_BASE, "fused": 3, "stem": 32, "round": 0.0, "momentum": 0.9, "lite": False, **IMAGENET}
V2 = {**V2_B, "mean": (128.0, 128.0, 128.0), "std": (128.0, 128.0, 128.0)}  # timm: 127.5, which is not what it trained with
# width, depth, native resolution, dropout: tensorflow/tpu, models/official/efficientnet/efficientnet_builder.py and
# lite/efficientnet_lite_builder.py; v2: effnetv2_configs.py; compact: ours
VARIANTS = {
    "compact": {
        "width": 0.5,
        "depth": 0.5,
        "resolution": 32,
        "dropout": 0.2,
        "drop_path": 0.0,
        **V2_B,
        "small_stem": "half",
    },
    "lite0": {"width": 1.0, "depth": 1.0, "resolution": 224, "dropout": 0.2, **LITE},
    "lite1": {"width": 1.0, "depth": 1.1, "resolution": 240, "dropout": 0.2, **LITE},
    "lite2": {"width": 1.1, "depth": 1.2, "resolution": 260, "dropout": 0.3, **LITE},
    "lite3": {"width": 1.2, "depth": 1.4, "resolution": 280, "dropout": 0.3, **LITE},
    "lite4": {"width": 1.4, "depth": 1.8, "resolution": 300, "dropout": 0.3, **LITE},
    "b0": {"width": 1.0, "depth": 1.0, "resolution": 224, "dropout": 0.2, **V1},
    "b1": {"width": 1.0, "depth": 1.1, "resolution": 240, "dropout": 0.2, **V1},
    "b2": {"width": 1.1, "depth": 1.2, "resolution": 260, "dropout": 0.3, **V1},
    "b3": {"width": 1.2, "depth": 1.4, "resolution": 300, "dropout": 0.3, **V1},
    "b4": {"width": 1.4, "depth": 1.8, "resolution": 380, "dropout": 0.4, **V1},
    "b5": {"width": 1.6, "depth": 2.2, "resolution": 456, "dropout": 0.4, **V1},
    "b6": {"width": 1.8, "depth": 2.6, "resolution": 528, "dropout": 0.5, **V1},
    "b7": {"width": 2.0, "depth": 3.1, "resolution": 600, "dropout": 0.5, **V1},
    "v2b0": {"width": 1.0, "depth": 1.0, "resolution": 224, "dropout": 0.2, **V2_B},
    "v2b1": {"width": 1.0, "depth": 1.1, "resolution": 240, "dropout": 0.2, **V2_B},
    "v2b2": {"width": 1.1, "depth": 1.2, "resolution": 260, "dropout": 0.3, **V2_B},
    "v2b3": {"width": 1.2, "depth": 1.4, "resolution": 300, "dropout": 0.3, **V2_B},
    "v2s": {"width": 1.0, "depth": 1.0, "resolution": 384, "dropout": 0.2, **V2, "stages": V2_S, "stem": 24},
    "v2m": {"width": 1.0, "depth": 1.0, "resolution": 480, "dropout": 0.3, **V2, "stages": V2_M, "stem": 24},
    "v2l": {"width": 1.0, "depth": 1.0, "resolution": 480, "dropout": 0.4, **V2, "stages": V2_L, "stem": 32},
}

# v1: Tan & Le, 2019, section 5.2, with RandAugment for AutoAugment. v2: Tan & Le, 2021, https://arxiv.org/abs/2104.00298,
# section 5.1 and the code's hparams.py and effnetv2_configs.py, for "v2s" at 300 pixels (tested at 384, see recipes.resize;
# 83.9 % on ImageNet): four stages of growing images and magnitude. v2_finetune: `ImagenetFt` and `Cifar10Ft` of the code's
# datasets.py. The rate is .016 at batches of 256 (fine-tuning: 5e-4), here for these batch sizes: scale it in proportion.
# It falls by 3 % every 2.4 epochs of 350: to 1.2 % in the end.
RMSPROP = {
    "optimizer": "rmsprop",
    "learning_rate": 0.256,
    "batch_size": 4096,
    "weight_decay": 1e-5,
    "label_smoothing": 0.1,
    "drop_path": 0.2,
    "schedule": "WarmupExponential",
    "schedule_arguments": {"warmup": 5 / 350, "floor": 0.0118},
    "epochs": 350,
    "augment": "photo",
    "ema": 0.9999,
}
TRAINING = {
    "default": {
        "learning_rate": 3e-3,
        "batch_size": 128,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "augment": "shift",
    },
    "v1": {**RMSPROP, "augment_arguments": {"magnitude": 9}},
    "v2": {
        **RMSPROP,
        "augment_arguments": {"magnitude": 10, "stddev": 0.0},
        "sizes": (0.57, 0.71, 0.86, 1.0),
        "grow": {"magnitude": (5, 10)},
    },
    "v2_finetune": {
        **RMSPROP,
        "learning_rate": 1e-3,
        "batch_size": 512,
        "schedule": "WarmupConstant",
        "schedule_arguments": {"warmup": 1 / 15},
        "epochs": 15,
        "augment": "crop",
        "ema": 0.9996,
    },
}


@builder
def efficientnet(
    input_shape,
    num_classes,
    *,
    variant="compact",
    weights=None,
    stem=None,
    width=None,
    depth=None,
    dropout=None,
    drop_path=None,
    task="classify",
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="efficientnet",
):
    """Build an EfficientNet, an EfficientNetV2 or an EfficientNet-Lite.

    V2 widens and filters with one full convolution in its first three stages, where that is faster. Lite has no
    squeeze-and-excitation, ReLU6 instead of swish, and a stem, a top, and first and last stages that do not grow with the
    variant. Grey images are repeated to three channels inside the model, so the same weights fit.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side. Any size goes with any variant; the one that
            the weights were trained at is `VARIANTS[variant]["resolution"]`.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"compact"`, a small V2 to train oneself; `"lite0"` ... `"lite4"`, `"b0"` ... `"b7"`,
            `"v2b0"` ... `"v2b3"`, `"v2s"`, `"v2m"`, `"v2l"`.
        weights: Path of a state dict of `efficientnet-lite-pytorch`, `efficientnet-pytorch` or timm
            (`tf_efficientnet_b0`, `tf_efficientnetv2_s` ...; those without `tf_` pad differently), of an `.h5` or
            `.weights.h5` of keras.applications, `"owner/name@revision"` of the Hugging Face hub, or `None` for random
            weights. If the file's head has another number of classes, ours stays random and a warning says so.
        stem: `"imagenet"` (stride 2; a 32nd of the size in the end), `"half"` (stride 1 in the stage that would shrink
            the image next; a 16th), `"cifar"` (stride 1 in the stem, too; an 8th) or `None`: up to 64 pixels, unless
            weights are given, `"cifar"`, for `"compact"` from 16 pixels on `"half"`; else `"imagenet"`.
        width: Factor of the number of channels; `None` as the variant says.
        depth: Factor of the number of blocks; `None` as the variant says.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`; `None` as the variant says.
        drop_path: Share of examples whose residual branch is dropped, in `[0, 1)`: grows from 0 to this at the top;
            `None` as `training` says, or the variant.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("efficientnet")`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases and BatchNorm; `None` as `training` says.
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
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), table 1 and section 3.3;
        [Tan & Le, 2021](https://arxiv.org/abs/2104.00298), table 4; drop path as
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382).
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    row = VARIANTS[variant]
    check_choice("stem", stem, (None, "cifar", "half", "imagenet"))
    check_pretrained_channels(input_shape, weights)
    if stem is None:  # the recipe must remember which: nobody passes weights when a saved model is built again
        stem = "imagenet"
        if max(input_shape[:2]) <= 64 and weights is None:
            stem = row.get("small_stem", "cifar") if min(input_shape[:2]) >= 16 else "cifar"
        return efficientnet(**{**arguments, "stem": stem})
    width = row["width"] if width is None else width
    depth = row["depth"] if depth is None else depth
    for argument, factor in (("width", width), ("depth", depth)):
        if not 0 < factor < math.inf:
            raise ValueError(f"{argument} must be a number > 0. Received: {argument}={factor}")
    dropout = row["dropout"] if dropout is None else dropout
    check_fraction("dropout", dropout)
    settings = training_row(
        TRAINING,
        training,
        drop_path=drop_path,
        label_smoothing=label_smoothing,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    drop_path = settings.pop("drop_path", row.get("drop_path", 0.2))
    check_fraction("drop_path", drop_path)
    lite, least = row["lite"], row["round"]
    style = {"activation": "relu6" if lite else "silu", "momentum": row["momentum"]}
    blocks = [block for stage in stage_blocks(row, width, depth, stem) for block in stage]

    inputs = keras.Input(input_shape, name="image")
    x = standard_pixels(inputs, row["mean"], row["std"])
    filters = row["stem"] if lite else round_channels(row["stem"] * width, least)
    x = conv_norm(x, filters, 3, 1 if stem == "cifar" else 2, **style, name="stem")  # (batch, height / 2, width / 2, 32)
    for i, (fused, *block) in enumerate(blocks):
        common = {**style, "drop_path": drop_path * i / len(blocks), "name": f"block{i}"}
        x = fused_mbconv(x, *block, **common) if fused else mbconv(x, *block, squeeze=not lite, **common)
    filters = 1280 if lite else round_channels(1280 * width, least)
    x = conv_norm(x, filters, 1, 1, **style, name="top")  # (batch, height / 32, width / 32, 1280)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, 1280)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
    return compile_model(model, task, **settings)


def stage_blocks(row, width, depth, stem):
    """Return `(fused, kernel, stride, expansion, channels)` of each block of each stage."""
    stages = []
    for i, (blocks, kernel, stride, expansion, channels) in enumerate(row["stages"]):
        if not (row["lite"] and i in (0, len(row["stages"]) - 1)):
            blocks = math.ceil(depth * blocks)
        if stem != "imagenet" and i == 1:
            stride = 1
        fused, channels = i < row["fused"], round_channels(width * channels, row["round"])
        stages.append([(fused, kernel, stride if j == 0 else 1, expansion, channels) for j in range(blocks)])
    return stages


def round_channels(channels, least=0.9):
    """Round to the nearest multiple of 8, or the next one if that keeps less than this share."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < least * channels else rounded


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
