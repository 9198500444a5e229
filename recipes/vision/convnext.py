"""ConvNeXt: convolutions arranged like a transformer, for photographs, and in small for small images."""

import keras

from recipes.layers import DropPath, LayerScale
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
from recipes.weights.convnext_names import load_weights

# Liu et al., 2022, https://arxiv.org/abs/2201.03545, section 3 (T/S/B/L) and table 5 (drop path); the smaller ones are
# ConvNeXt V2's widths, https://arxiv.org/abs/2301.00808, appendix A.1, in the form that timm trained (convnext_atto ...)
VARIANTS = {
    "atto": {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320), "drop_path": 0.1},
    "femto": {"depths": (2, 2, 6, 2), "widths": (48, 96, 192, 384), "drop_path": 0.1},
    "pico": {"depths": (2, 2, 6, 2), "widths": (64, 128, 256, 512), "drop_path": 0.1},
    "nano": {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640), "drop_path": 0.1},
    "tiny": {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768), "drop_path": 0.1},
    "small": {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768), "drop_path": 0.4},
    "base": {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024), "drop_path": 0.5},
    "large": {"depths": (3, 3, 27, 3), "widths": (192, 384, 768, 1536), "drop_path": 0.5},
}

# convnext: Liu et al., 2022, table 5 and the code's TRAINING.md; the rate is for this batch size, scale it in proportion
TRAINING = {
    "default": {
        "learning_rate": 1e-3,
        "batch_size": 128,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "augment": "shift",
    },
    "convnext": {
        "learning_rate": 4e-3,
        "batch_size": 4096,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "schedule_arguments": {"warmup": 20 / 300, "floor": 2.5e-4},
        "epochs": 300,
        "augment": "photo",
        "augment_arguments": {"magnitude": 9, "erase": 0.25},
        "mix": {"mixup": 0.8, "cutmix": 1.0},
        "ema": 0.9999,
    },
}


@builder
def convnext(
    input_shape,
    num_classes,
    *,
    variant="atto",
    weights=None,
    patch_size=None,
    depths=None,
    widths=None,
    layer_scale=1e-6,
    drop_path=None,
    dropout=0.0,
    task="classify",
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="convnext",
):
    """Build a ConvNeXt.

    Each block filters every channel by itself with a 7x7 kernel and then mixes them with an MLP four times as wide. Grey
    images are repeated to three channels inside the model, so the same weights fit.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"atto"`, `"femto"`, `"pico"`, `"nano"`, `"tiny"`, `"small"`, `"base"`, `"large"`.
        weights: Path of a state dict of timm, torchvision, transformers or the authors, or `None` for random weights. If
            the file's head has another number of classes, ours stays random and a warning says so.
        patch_size: Side in pixels of the patches that the stem embeds; each further stage halves the size. `None`: 4,
            or without weights 2 up to 64 pixels and 1 below 16.
        depths: Blocks of each stage; `None` as the variant says.
        widths: Channels of each stage; `None` as the variant says.
        layer_scale: What the learned factors of the residual branches start with; 0 for none.
        drop_path: Share of examples whose residual branch is dropped, in `[0, 1)`: grows from 0 to this at the top;
            `None` as `training` says, or the variant.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("convnext")`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases, norms and the factors of the branches; `None` as `training`
            says.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = convnext((32, 32, 3), 10, depths=(1, 1), widths=(16, 32))
    >>> model.output_shape
    (None, 10)

    Reference:
        [Liu et al., 2022](https://arxiv.org/abs/2201.03545), figure 4 and table 5.
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    check_pretrained_channels(input_shape, weights)
    if patch_size is None:  # the recipe must remember which: nobody passes weights when a saved model is built again
        fine = 1 if min(input_shape[:2]) < 16 else 2
        patch_size = fine if max(input_shape[:2]) <= 64 and weights is None else 4
        return convnext(**{**arguments, "patch_size": patch_size})
    check_count("patch_size", patch_size)
    row = VARIANTS[variant]
    depths, widths = depths or row["depths"], widths or row["widths"]
    if len(depths) != len(widths):
        raise ValueError(f"depths and widths must have one number a stage. Received: depths={depths}, widths={widths}")
    if min(depths) < 1 or min(widths) < 1:
        raise ValueError(f"depths and widths must be at least 1. Received: depths={depths}, widths={widths}")
    if patch_size * 2 ** (len(depths) - 1) > min(input_shape[:2]):
        raise ValueError(
            f"patch_size must leave a pixel after {len(depths)} stages. Received: patch_size={patch_size}, "
            f"input_shape={input_shape}. Pass a smaller patch_size, or fewer depths and widths."
        )
    settings = training_row(
        TRAINING,
        training,
        drop_path=drop_path,
        label_smoothing=label_smoothing,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    drop_path = settings.pop("drop_path", row["drop_path"])
    check_fraction("drop_path", drop_path)
    check_fraction("dropout", dropout)
    if layer_scale < 0:
        raise ValueError(f"layer_scale must be at least 0. Received: layer_scale={layer_scale}")

    inputs = keras.Input(input_shape, name="image")
    x = standard_pixels(inputs, **IMAGENET)
    x = conv(x, widths[0], patch_size, name="stem_conv")  # (batch, height / patch_size, width / patch_size, width)
    x = norm(x, name="stem_norm")
    total, index = sum(depths), 0
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        if i > 1:
            x = norm(x, name=f"stage{i}_shrink_norm")
            x = conv(x, width, 2, name=f"stage{i}_shrink_conv")  # (batch, height / 2, width / 2, width)
        for j in range(1, depth + 1):
            x = convnext_block(x, layer_scale, drop_path * index / max(1, total - 1), name=f"stage{i}_block{j}")
            index += 1
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, width)
    x = norm(x, name="head_norm")
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
    return compile_model(model, task, **settings)


def convnext_block(x, layer_scale, drop_path, name):
    """Filter each channel, mix the channels, add: `(batch, height, width, width)` (figure 4, right)."""
    width = x.shape[-1]
    y = keras.layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=small_normal(), name=f"{name}_depthwise")(x)
    y = norm(y, name=f"{name}_norm")
    y = keras.layers.Dense(4 * width, activation="gelu", kernel_initializer=small_normal(), name=f"{name}_mlp1")(y)
    y = keras.layers.Dense(width, kernel_initializer=small_normal(), name=f"{name}_mlp2")(y)
    if layer_scale:
        y = LayerScale(layer_scale, name=f"{name}_scale")(y)
    y = DropPath(drop_path, name=f"{name}_drop_path")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def conv(x, filters, size, name):
    """Convolution of patches that do not overlap."""
    return keras.layers.Conv2D(filters, size, size, kernel_initializer=small_normal(), name=name)(x)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def small_normal():
    return keras.initializers.TruncatedNormal(stddev=0.02)  # as in the authors' code


def convnext_space(hp):
    """Return keyword arguments of `convnext` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    width, depth = hp.Choice("width", [24, 40, 64]), hp.Int("depth", 1, 3)
    return {
        "depths": (depth, depth, 3 * depth),
        "widths": (width, 2 * width, 4 * width),
        "drop_path": hp.Float("drop_path", 0.0, 0.3, step=0.1),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 4e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
