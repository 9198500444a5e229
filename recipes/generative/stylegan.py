"""StyleGAN2: a generator of styles, with the regularisation and the adaptive augmentation that it is known for."""

from recipes.generative.augmentation import POLICIES
from recipes.generative.averaging import check_decay
from recipes.generative.model import adapt_vectors, check_arguments
from recipes.generative.stylegan_model import StyleGAN
from recipes.generative.stylegan_networks import style_networks
from recipes.training.recipe import builder, check_choice, check_count, compile_model

# compact: the networks are narrow enough for two CPU cores at 28 to 32 pixels; mapping, path length and mixing as
# NVlabs/stylegan2-ada-pytorch's train.py has them for "cifar". stylegan2: Karras et al., 2020,
# https://arxiv.org/abs/1912.04958, appendix B and config F: 64 channels at 256 pixels, 512 at 32 and below.
VARIANTS = {
    "compact": {"width": 32, "latent": 64, "mapping_depth": 2, "penalty": 0.1, "path_length": 0.0, "mixing": 0.0},
    "stylegan2": {"width": 64, "latent": 512, "mapping_depth": 8, "penalty": 10.0, "path_length": 2.0, "mixing": 0.9},
}
VECTORS = {"width": 128, "latent": 16}


@builder
def stylegan(
    input_shape,
    num_classes=None,
    *,
    variant="compact",
    width=None,
    latent=None,
    mapping_depth=None,
    penalty=None,
    path_length=None,
    mixing=None,
    ema=0.999,
    augment=(),
    adapt=None,
    learning_rate=2.5e-3,
    name="stylegan",
):
    """Build a StyleGAN2: noise becomes a style, and a style scales every convolution of the image's network.

    The discriminator sees how much the examples of a batch differ; R1 every 16 steps keeps it smooth. For vectors the
    same networks have one pixel. `sample(n, truncation=0.7)` gives better samples that differ less.

    Args:
        input_shape: `(height, width, channels)` of images, with even sides of at least 8; or `(features,)` of vectors.
        num_classes: Number of classes, or `None`. With it the data are `(x, labels)`.
        variant: Row of `VARIANTS`: `"compact"` for small images and few cores, or `"stylegan2"`, config F.
        width: Channels at the largest size, doubled at each halving up to eight times; `None` as the variant says.
        latent: Length of noise and style; `None` as the variant says.
        mapping_depth: Number of layers from noise to style; `None` as the variant says.
        penalty: Weight of R1, at least 0; `None` as the variant says.
        path_length: Weight of the path-length regularisation, at least 0; `None` as the variant says.
        mixing: Share of the examples with two styles, in `[0, 1]`; `None` as the variant says.
        ema: Decay of the average of the generator that `sample` draws from, in `[0, 1)`.
        augment: What the discriminator sees of images, real and fake, is changed by, adaptively (ADA), for little data: a
            tuple of names out of `"colour"`, `"translation"`, `"cutout"`, `"flip"` and `"scale"`.
        adapt: Vectors to take the mean and the standard deviation from; images need none.
        learning_rate: Of both networks.
        name: Name of the model.

    Returns:
        Compiled model: `fit(x)` or `fit(x, labels)`, images raw 0..255; `sample(n)` gives `(n, *input_shape)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = stylegan((8, 8, 1), width=8, latent=8)
    >>> model.sample(2, seed=0, truncation=0.7).shape
    (2, 8, 8, 1)

    Reference:
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958); adaptive augmentation:
        [Karras et al., 2020b](https://arxiv.org/abs/2006.06676).
    """
    check_arguments(input_shape, num_classes, variant, VARIANTS)
    images = len(input_shape) == 3
    row = VARIANTS[variant] if images else {**VARIANTS[variant], **VECTORS}
    width, latent = row["width"] if width is None else width, row["latent"] if latent is None else latent
    mapping_depth = row["mapping_depth"] if mapping_depth is None else mapping_depth
    penalty = row["penalty"] if penalty is None else penalty
    path_length = row["path_length"] if path_length is None else path_length
    mixing = row["mixing"] if mixing is None else mixing
    check_count("width", width)
    check_count("latent", latent)
    check_count("mapping_depth", mapping_depth)
    check_decay("ema", ema)
    for argument, value in (("penalty", penalty), ("path_length", path_length)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{argument} must be a finite number >= 0. Received: {argument}={value!r}")
    if not 0 <= mixing <= 1:
        raise ValueError(f"mixing must be in [0, 1]. Received: mixing={mixing!r}")
    if isinstance(augment, str) or (augment and not images):
        raise ValueError(f"augment must be a tuple of names, and empty for vectors. Received: augment={augment!r}")
    for choice in augment:
        check_choice("augment", choice, POLICIES)

    networks = style_networks(input_shape, num_classes, latent, width, mapping_depth)
    model = StyleGAN(
        *networks,
        data_shape=input_shape,
        num_classes=num_classes,
        ema=ema,
        augment=augment,
        penalty=penalty,
        path_length=path_length,
        mixing=mixing,
        name=name,
    )
    adapt_vectors(model, adapt)
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,
        weight_decay=0.0,
        momentum=0.0,
        beta_2=0.99,
        schedule=None,
        epochs=30,
        batch_size=32 if images else 256,
    )


def stylegan_space(hp):
    """Return keyword arguments of `stylegan` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Int("width", 16, 64, step=2, sampling="log"),
        "latent": hp.Int("latent", 16, 256, step=2, sampling="log"),
        "mapping_depth": hp.Int("mapping_depth", 2, 8),
        "penalty": hp.Float("penalty", 0.01, 10.0, sampling="log"),
        "learning_rate": hp.Float("learning_rate", 5e-4, 5e-3, sampling="log"),
    }
