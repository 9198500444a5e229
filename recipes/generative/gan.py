"""Generative adversarial networks: DCGAN, Wasserstein with gradient penalty, and the relativistic R3GAN."""

import warnings

from recipes.generative.augmentation import POLICIES
from recipes.generative.averaging import check_decay
from recipes.generative.gan_model import GAN, WassersteinGAN
from recipes.generative.gan_networks import convolutional_networks, dense_networks, residual_networks
from recipes.generative.model import adapt_vectors, check_arguments
from recipes.training.recipe import builder, check_choice, check_count, compile_model
from recipes.weights.gan_names import load_generator

# dcgan: Radford et al., 2016, https://arxiv.org/abs/1511.06434, section 4, and torch's examples/dcgan; wgan_gp: Gulrajani
# et al., 2017, https://arxiv.org/abs/1704.00028, algorithm 1 and appendix F, at five times their rate, which is for 100,000
# steps: on Fashion-MNIST, after 940 of the generator, theirs had a Frechet distance of 16.9, this one 3.9; r3gan: Huang
# et al., 2024, https://arxiv.org/abs/2501.05441, table 6 (CIFAR-10 starts at a penalty of .05, FFHQ-64 at 2) and their
# train.py, whose batches of 512 and widths of 768 are for eight GPUs: here both are what two CPU cores can train at 28 to
# 32 pixels.
VARIANTS = {
    "dcgan": {"width": 64, "latent": 100, "penalty": 0.0, "learning_rate": 2e-4, "momentum": 0.5, "beta_2": 0.999},
    "wgan_gp": {
        "width": 64,
        "latent": 128,
        "penalty": 10.0,
        "n_critic": 5,
        "learning_rate": 5e-4,
        "momentum": 0.5,
        "beta_2": 0.9,
    },
    "r3gan": {"width": 32, "latent": 64, "penalty": 0.5, "learning_rate": 2e-4, "momentum": 0.0, "beta_2": 0.99},
}
# Dense networks of 128 units want a higher rate than the convolutions, and a noise of few numbers. Of eight Gaussians of
# deviation .1 on a circle of radius 2 all three then find every one, with 92, 91 and 94 % of 2000 samples within 3
# deviations: one seed, batches of 256, 6400 to 7200 steps, 30 to 36 s of one core's time on JAX.
VECTORS = {
    "dcgan": {"width": 128, "latent": 16, "penalty": 0.1, "learning_rate": 1e-3},
    "wgan_gp": {"width": 128, "latent": 16, "penalty": 0.1, "n_critic": 2, "learning_rate": 1e-3},
    "r3gan": {"width": 128, "latent": 16, "penalty": 0.1, "learning_rate": 1e-3},
}


@builder
def gan(
    input_shape,
    num_classes=None,
    *,
    variant="dcgan",
    weights=None,
    width=None,
    latent=None,
    penalty=None,
    n_critic=None,
    ema=0.999,
    augment=(),
    adapt=None,
    learning_rate=None,
    weight_decay=0.0,
    name="gan",
):
    """Build a generative adversarial network: a generator and a discriminator that learn against each other.

    `"dcgan"` is convolutional and quick; `"wgan_gp"` trains a critic of the Wasserstein distance, five steps for one of the
    generator; `"r3gan"` has residual networks and a loss on pairs of a real and a fake example, with the gradients of both
    penalised, and is the most stable. Vectors get dense networks with the same losses. `sample` draws from an average of
    the generator's weights.

    Args:
        input_shape: `(height, width, channels)` of images, with even sides of at least 8; or `(features,)` of vectors.
        num_classes: Number of classes, or `None`. With it the data are `(x, labels)`.
        variant: Row of `VARIANTS`: `"dcgan"`, `"wgan_gp"` or `"r3gan"`.
        weights: Path of a torch state dict of a DCGAN generator, for `"dcgan"`; or `None` for random weights.
        width: Channels at the largest size, doubled at each halving up to eight times, or units of dense layers; `None` as
            the variant says.
        latent: Length of the noise; `None` as the variant says.
        penalty: Weight of the penalty on the discriminator's gradient, at least 0: R1, R1 and R2, or that of WGAN-GP;
            `None` as the variant says.
        n_critic: Steps of the critic for one of the generator, of `"wgan_gp"`; `None` as the variant says.
        ema: Decay of the average of the generator that `sample` draws from, in `[0, 1)`.
        augment: What the discriminator sees of images, real and fake, is changed by, for little data: a tuple of names out
            of `"colour"`, `"translation"`, `"cutout"` (DiffAugment has these three), `"flip"` and `"scale"`.
        adapt: Vectors to take the mean and the standard deviation from; images need none.
        learning_rate: Of both networks; `None` as the variant says.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled model: `fit(x)` or `fit(x, labels)`, images raw 0..255; `sample(n)` gives `(n, *input_shape)`.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another network.

    Example:

    >>> model = gan((8, 8, 1), width=8)
    >>> history = model.fit(np.zeros((16, 8, 8, 1)), epochs=1, verbose=0)
    >>> model.sample(2).shape
    (2, 8, 8, 1)

    Reference:
        [Radford et al., 2016](https://arxiv.org/abs/1511.06434); [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028);
        [Huang et al., 2024](https://arxiv.org/abs/2501.05441); augmentation:
        [Zhao et al., 2020](https://arxiv.org/abs/2006.10738).
    """
    check_arguments(input_shape, num_classes, variant, VARIANTS)
    images = len(input_shape) == 3
    row = VARIANTS[variant] if images else {**VARIANTS[variant], **VECTORS[variant]}
    width, latent = row["width"] if width is None else width, row["latent"] if latent is None else latent
    penalty = row["penalty"] if penalty is None else penalty
    check_count("width", width)
    check_count("latent", latent)
    check_decay("ema", ema)
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"penalty must be a finite number >= 0. Received: penalty={penalty!r}")
    if n_critic is not None:
        if variant != "wgan_gp":
            raise ValueError(f'n_critic is of variant="wgan_gp" alone. Received: n_critic={n_critic!r}')
        check_count("n_critic", n_critic)
    if isinstance(augment, str) or (augment and not images):
        raise ValueError(f"augment must be a tuple of names, and empty for vectors. Received: augment={augment!r}")
    for choice in augment:
        check_choice("augment", choice, POLICIES)
    if weights is not None and (variant != "dcgan" or not images):
        raise ValueError(f'weights are for variant="dcgan" and images. Received: weights={weights!r}')

    bias = variant == "dcgan"  # the other losses see differences of logits alone
    if not images:
        networks = dense_networks(input_shape, num_classes, latent, width, bias)
    elif variant == "r3gan":
        networks = residual_networks(input_shape, num_classes, latent, width, bias)
    else:
        normalise = variant == "dcgan" and not penalty  # a batch has no gradient of each example
        networks = convolutional_networks(input_shape, num_classes, latent, width, bias, normalise)
    if weights is not None:
        load_generator(networks[0], weights)
        warnings.warn("weights: the file has the generator alone; the discriminator starts from random weights.")
    common = {"data_shape": input_shape, "num_classes": num_classes, "ema": ema, "augment": augment, "name": name}
    if variant == "wgan_gp":
        model = WassersteinGAN(*networks, penalty=penalty, n_critic=n_critic or row["n_critic"], **common)
    else:
        loss = "relativistic" if variant == "r3gan" else "nonsaturating"
        model = GAN(*networks, loss=loss, penalty=penalty, **common)
    adapt_vectors(model, adapt)
    return compile_model(
        model,
        "generate",
        learning_rate=row["learning_rate"] if learning_rate is None else learning_rate,
        weight_decay=weight_decay,
        momentum=row["momentum"],
        beta_2=row["beta_2"],
        schedule=None,
        epochs=30,
        batch_size=64 if images else 256,
    )


def gan_space(hp):
    """Return keyword arguments of `gan` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "variant": hp.Choice("variant", list(VARIANTS)),
        "width": hp.Int("width", 16, 128, step=2, sampling="log"),
        "latent": hp.Int("latent", 16, 128, step=2, sampling="log"),
        "penalty": hp.Float("penalty", 0.05, 10.0, sampling="log"),
        "learning_rate": hp.Float("learning_rate", 5e-5, 2e-3, sampling="log"),
    }
