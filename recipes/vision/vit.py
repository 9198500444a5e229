"""Vision transformers: ViT and DeiT for photographs, and a compact one with a convolutional stem for little data."""

import math

import keras

from recipes.blocks import transformer_block
from recipes.layers import ClassToken, FusedBatchNorm, PositionEmbedding, SinCosPosition
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
from recipes.weights.vit_names import load_weights, read_epsilon

HALF = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}  # what Google's weights were trained with
PHOTO = {
    "stem": "patches",
    "patch_size": 16,
    "head_width": 64,
    "mlp_ratio": 4,
    "stddev": 0.02,
    "locality": False,
    "pool": "token",
}
# tiny: Touvron et al., 2021, https://arxiv.org/abs/2012.12877, table 1; small: the same, S; base, large: Dosovitskiy et
# al., 2021, https://arxiv.org/abs/2010.11929, table 1. drop_path: DeiT's main.py; large: DeiT III's README_revenge.md.
# compact: stem after Xiao et al., 2021, https://arxiv.org/abs/2106.14881; average and narrow MLP as CCT-7, Hassani et al.,
# 2021, https://arxiv.org/abs/2104.05704; locality: Lee et al., 2021, https://arxiv.org/abs/2112.13492
VARIANTS = {
    "compact": {
        "stem": "convolutions",
        "patch_size": None,
        "width": 96,
        "depth": 4,
        "head_width": 32,
        "mlp_ratio": 2,
        "stddev": None,
        "locality": True,
        "pool": "average",
        "drop_path": 0.0,
        **HALF,
    },
    "tiny": {"width": 192, "depth": 12, "drop_path": 0.1, **PHOTO, **HALF},
    "small": {"width": 384, "depth": 12, "drop_path": 0.1, **PHOTO, **HALF},
    "base": {"width": 768, "depth": 12, "drop_path": 0.1, **PHOTO, **HALF},
    "large": {"width": 1024, "depth": 24, "drop_path": 0.45, **PHOTO, **HALF},
    "deit_tiny": {"width": 192, "depth": 12, "drop_path": 0.1, **PHOTO, **IMAGENET},
    "deit_small": {"width": 384, "depth": 12, "drop_path": 0.1, **PHOTO, **IMAGENET},
    "deit_base": {"width": 768, "depth": 12, "drop_path": 0.1, **PHOTO, **IMAGENET},
}

# Rates are for these batch sizes: scale them in proportion for another.
# deit: Touvron et al., 2021, https://arxiv.org/abs/2012.12877, table 9 and the code's main.py: 5e-4 at 512, batches of 1024.
# deit3: Touvron et al., 2022, https://arxiv.org/abs/2204.07118, table 1 and the code's README_revenge.md, ViT-S (81.4 % on
# ImageNet); base takes learning_rate=3e-3, drop_path=0.2, large 3e-3 and .45. Its class token has no
# position, which is one of 0 here.
# small_data: Lee et al., 2021, https://arxiv.org/abs/2112.13492, section 4.1 and the code's main.py, for CIFAR and Tiny
# ImageNet; RandAugment stands for its AutoAugment.
TRAINING = {
    "default": {
        "learning_rate": 2e-3,
        "batch_size": 128,
        "weight_decay": 0.05,
        "global_clipnorm": 1.0,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "augment": "shift",
    },
    "deit": {
        "learning_rate": 1e-3,
        "batch_size": 1024,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "drop_path": 0.1,
        "schedule": "WarmupCosine",
        "schedule_arguments": {"warmup": 5 / 300, "floor": 0.01},
        "epochs": 300,
        "augment": "photo",
        "augment_arguments": {"magnitude": 9, "erase": 0.25},
        "mix": {"mixup": 0.8, "cutmix": 1.0},
        "repeats": 3,
    },
    "deit3": {
        "optimizer": "lamb",
        "learning_rate": 4e-3,
        "batch_size": 2048,
        "weight_decay": 0.05,
        "global_clipnorm": 1.0,
        "loss": "binary",
        "label_smoothing": 0.0,
        "drop_path": 0.05,
        "layer_scale": 1e-6,
        "schedule": "WarmupCosine",
        "schedule_arguments": {"warmup": 5 / 800},
        "epochs": 800,
        "augment": "three",
        "augment_arguments": {"jitter": 0.3},
        "mix": {"mixup": 0.8, "cutmix": 1.0},
        "repeats": 3,
    },
    "small_data": {
        "learning_rate": 1e-3,
        "batch_size": 128,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "drop_path": 0.1,
        "schedule": "WarmupCosine",
        "schedule_arguments": {"warmup": 10 / 100},
        "epochs": 100,
        "augment": "flip_shift_rand",
        "augment_arguments": {"erase": 0.25},
        "mix": {"mixup": 1.0, "cutmix": 1.0, "probability": 0.5},
        "repeats": 3,
    },
}


@builder
def vit(
    input_shape,
    num_classes,
    *,
    variant="compact",
    weights=None,
    patch_size=None,
    width=None,
    depth=None,
    pool=None,
    positions="learned",
    drop_path=None,
    layer_scale=None,
    dropout=0.0,
    epsilon=None,
    task="classify",
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="vit",
):
    """Build a vision transformer: the image as a sequence of patches.

    `"compact"` turns pixels into tokens by a few convolutions, which learns from much less data than patches; the others
    are ViT and DeiT as timm and transformers have them. Grey images are repeated to three channels inside the model, so
    that the same weights fit.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side. Patches must divide both sides.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"compact"`; `"tiny"`, `"small"`, `"base"`, `"large"`, with the pixels in [-1, 1]; or
            `"deit_tiny"`, `"deit_small"`, `"deit_base"`, the same networks with the pixels as ImageNet weights expect.
        weights: Path of a state dict of timm, or of a file or folder of transformers, or `None` for random weights.
            Positions of another grid are interpolated; files of DeiT III need `layer_scale=1e-6`. If the file's head has
            another number of classes, ours stays random and a warning says so.
        patch_size: Side in pixels that becomes one token, a power of 2 for `"compact"`; `None` as the variant says: 16,
            or for `"compact"` the largest power of 2 up to 16 that leaves at least 7 tokens a side.
        width: Length of a token's vector, a multiple of 64, for `"compact"` of 32; `None` as the variant says.
        depth: Number of blocks; `None` as the variant says.
        pool: What the head sees: `"token"`, an extra one that stands for the whole, or `"average"`, the mean of all;
            `None` as the variant says.
        positions: `"learned"`, or `"sincos"` for fixed waves over rows and columns.
        drop_path: Share of examples whose residual branch is dropped, in `[0, 1)`: grows from 0 to this at the top;
            `None` as `training` says, or the variant.
        layer_scale: What a learned factor for each channel of each residual branch starts with, at least 0; `None` as
            `training` says: 1e-6 for `"deit3"`, else there is none.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`.
        epsilon: Of the layer normalisations. `None`: 1e-6, or what the `config.json` beside the weights says.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("vit")`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases, norms, positions and the class token; `None` as `training` says.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)`, raw 0..255, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = vit((28, 28, 1), 10, depth=2)
    >>> model.get_layer("features").output.shape
    (None, 96)

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), section 3.1; DeiT as
        [Touvron et al., 2021](https://arxiv.org/abs/2012.12877), table 1.
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    check_classes(num_classes, task)
    check_choice("variant", variant, VARIANTS)
    check_pretrained_channels(input_shape, weights)
    row = VARIANTS[variant]
    width, depth, pool = width or row["width"], depth or row["depth"], pool or row["pool"]
    patch_size = patch_size or row["patch_size"] or compact_patch(input_shape)
    settings = training_row(
        TRAINING,
        training,
        drop_path=drop_path,
        layer_scale=layer_scale,
        label_smoothing=label_smoothing,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    drop_path, layer_scale = settings.pop("drop_path", row["drop_path"]), settings.pop("layer_scale", None)
    check_count("depth", depth)
    check_choice("pool", pool, ("token", "average"))
    check_choice("positions", positions, ("learned", "sincos"))
    check_fraction("drop_path", drop_path)
    if layer_scale is not None and layer_scale < 0:
        raise ValueError(f"layer_scale must be at least 0, or None. Received: layer_scale={layer_scale!r}")
    check_fraction("dropout", dropout)
    check_width(width, row["head_width"])
    check_patch_size(patch_size, input_shape, row["stem"])
    if epsilon is not None and not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be in (0, 1). Received: epsilon={epsilon!r}")
    heads = width // row["head_width"]
    if epsilon is None or arguments["patch_size"] is None:
        # the recipe must remember both: nobody passes weights when a saved model is built again, maybe at another size
        if epsilon is None:
            epsilon = 1e-6 if weights is None else read_epsilon(weights, heads)
        return vit(**{**arguments, "patch_size": patch_size, "epsilon": epsilon})

    inputs = keras.Input(input_shape, name="image")
    x = standard_pixels(inputs, row["mean"], row["std"])
    x = convolutions(x, width, patch_size) if row["stem"] == "convolutions" else patches(x, width, patch_size)
    grid = x.shape[1:3]  # (batch, rows, columns, width)
    x = keras.layers.Reshape((grid[0] * grid[1], width), name="tokens")(x)  # (batch, length, width)
    if positions == "sincos":
        x = SinCosPosition(grid, name="position")(x)
    if pool == "token":
        x = ClassToken(name="class_token")(x)  # (batch, 1 + length, width)
    if positions == "learned":
        x = PositionEmbedding(name="position_embedding")(x)
    for i in range(depth):
        x = transformer_block(
            x,
            heads,
            row["mlp_ratio"] * width,
            f"block{i}",
            drop_path=drop_path * i / max(1, depth - 1),
            layer_scale=layer_scale,
            epsilon=epsilon,
            locality=row["locality"],
            stddev=row["stddev"] or width**-0.5,  # Xavier's, as in big_vision; .02 would be too little for a small width
        )
    if pool == "average":
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)  # (batch, width); then the norm, as timm does
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    if pool == "token":
        x = keras.layers.Cropping1D((0, x.shape[1] - 1), name="token")(x)  # the first one: (batch, 1, width)
        x = keras.layers.Reshape((width,), name="token_vector")(x)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights, grid)
    return compile_model(model, task, **settings)


def patches(x, width, patch_size):
    """Project each patch by itself: `(batch, height / patch_size, width / patch_size, width)`."""
    # big_vision's initializer; .02 would be too little where a patch has few pixels
    return keras.layers.Conv2D(width, patch_size, patch_size, kernel_initializer="lecun_normal", name="patch")(x)


def convolutions(x, width, patch_size):
    """One 3x3 convolution and one more for each halving of the image, each twice as wide as the one before, up to `width`.

    Xiao et al. halve already in the first; small images are worth a look at full size.
    """
    strides = [1] + [2] * int(math.log2(patch_size))
    for i, stride in enumerate(strides, start=1):
        x = keras.layers.Conv2D(
            max(16, width >> (len(strides) - i)),
            3,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"stem{i}_conv",
        )(x)
        x = FusedBatchNorm(momentum=0.9, epsilon=1e-5, name=f"stem{i}_norm")(x)
        x = keras.layers.Activation("relu", name=f"stem{i}_relu")(x)
    return keras.layers.Conv2D(width, 1, kernel_initializer="lecun_normal", name="stem_conv")(x)


def compact_patch(input_shape):
    """Return the largest power of 2 up to 16 that leaves at least 7 tokens a side, or 1."""
    return max(size for size in (1, 2, 4, 8, 16) if size == 1 or min(input_shape[:2]) >= 7 * size)


def check_width(width, head_width):
    """Raise `ValueError` unless the heads fill the width."""
    check_count("width", width)
    if width % head_width:
        raise ValueError(f"width must be a multiple of {head_width}, the width of a head. Received: width={width}")


def check_patch_size(patch_size, input_shape, stem):
    """Raise `ValueError` unless the stem can cut the image into patches of that size."""
    check_count("patch_size", patch_size)
    if stem == "convolutions":
        if patch_size & (patch_size - 1) or patch_size > min(input_shape[:2]):
            raise ValueError(
                "patch_size must be a power of 2, at most the image's shorter side, for a stem of convolutions. "
                f"Received: patch_size={patch_size}"
            )
    elif any(side % patch_size for side in input_shape[:2]):
        near = [
            f"{axis} {multiples(side, patch_size)}" for axis, side in zip(("height", "width"), input_shape, strict=False)
        ]
        raise ValueError(
            f"input_shape must be a multiple of patch_size={patch_size} in height and width. Nearest: {', '.join(near)}. "
            f"Resize the images, or pass a patch_size that divides both. Received: input_shape={tuple(input_shape)}"
        )


def multiples(side, patch_size):
    """Say which multiples of `patch_size` are nearest to `side`."""
    below = side // patch_size * patch_size
    return " or ".join(str(size) for size in ((side,) if side == below else (below, below + patch_size)) if size)


def vit_space(hp):
    """Return keyword arguments of `vit` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Choice("width", [64, 96, 128, 192]),
        "depth": hp.Int("depth", 2, 8),
        "drop_path": hp.Float("drop_path", 0.0, 0.3, step=0.1),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 4e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
