"""Diffusion and flow matching: learn to take noise away, then make data of noise alone."""

import keras
import numpy as np
from keras import ops

from recipes.generative import denoisers
from recipes.generative.averaging import averaged_copy, check_decay, update_average
from recipes.generative.model import ROWS, GenerativeModel, adapt_vectors, check_arguments
from recipes.generative.noising import TARGETS, coefficients, flow_sigmas, karras_sigmas, table_of_sigmas
from recipes.generative.samplers import SAMPLERS
from recipes.training.recipe import builder, check_choice, check_count, check_fraction, compile_model

# edm: Karras et al., 2022, https://arxiv.org/abs/2206.00364, table 1. ddpm: Ho et al., 2020,
# https://arxiv.org/abs/2006.11239, section 4. v: Salimans & Ho, 2022, https://arxiv.org/abs/2202.00512, with the cosine
# schedule of their section 2. flow: Lipman et al., 2023, https://arxiv.org/abs/2210.02747; its times as Esser et al., 2024,
# https://arxiv.org/abs/2403.03206, section 3.1, "rf/lognorm(0, 1)". dit: Peebles & Xie, 2023,
# https://arxiv.org/abs/2212.09748, with the flow of Ma et al., 2024, https://arxiv.org/abs/2401.08740.
# log_noise: mean and standard deviation of the logarithm of the noise in training.
VARIANTS = {
    "edm": {"target": "edm", "denoiser": "unet", "log_noise": (-1.2, 1.2)},
    "ddpm": {"target": "epsilon", "denoiser": "unet", "betas": (1e-4, 0.02)},
    "v": {"target": "v", "denoiser": "unet", "betas": "cosine"},
    "flow": {"target": "flow", "denoiser": "unet", "log_noise": (0.0, 1.0)},
    "dit": {"target": "flow", "denoiser": "transformer", "log_noise": (0.0, 1.0)},
}
DENOISERS = {
    "unet": (denoisers.unet, {"width": 64, "depth": 1}),
    "transformer": (denoisers.transformer, {"width": 128, "depth": 6}),
    "dense": (denoisers.dense, {"width": 128, "depth": 3}),
}


@builder
def diffusion(
    input_shape,
    num_classes=None,
    *,
    variant="edm",
    target=None,
    denoiser=None,
    width=None,
    depth=None,
    patch_size=None,
    betas=None,
    dropout=0.0,
    label_dropout=0.1,
    ema=0.9999,
    adapt=None,
    learning_rate=1e-3,
    weight_decay=0.0,
    name="diffusion",
):
    """Build a diffusion model, or one of flow matching.

    The defaults are for images of about 30 pixels and a CPU: the U-Net sees patches of 2x2 pixels, which makes a step
    several times as fast as one at every pixel. Give more width and depth, or `patch_size=1`, where there is a GPU.

    Args:
        input_shape: `(height, width, channels)` of images, raw 0..255, 8 pixels a side or more; or `(features,)` of vectors.
        num_classes: Number of classes for a model that is told one; `None` for one that is not.
        variant: Row of `VARIANTS`: `"edm"`, `"ddpm"`, `"v"`, `"flow"`, or `"dit"`, flow with a transformer.
        target: What the network guesses, `"epsilon"`, `"v"`, `"edm"` or `"flow"`; `None` as the variant says.
        denoiser: `"unet"` or `"transformer"`, for vectors `"dense"`; `None` as the variant says.
        width: Channels of the network's first level, or units, a multiple of 16; `None`: 64, 128 in a transformer and for
            vectors.
        depth: Blocks of a level of the U-Net, or of the network; `None`: 1, 6 in a transformer, 3 for vectors.
        patch_size: Side in pixels that becomes one place of the network; `None`: 2 in a U-Net from 24 pixels on, else 1,
            and in a transformer the largest power of 2 up to 16 that leaves 7 a side.
        betas: Noise that training meets: `(first, last)` of a thousand steps that each replace such a share of the variance,
            or `"cosine"`; `None` as the variant says: `"edm"`, `"flow"` and `"dit"` have no steps.
        dropout: Fraction dropped in each block, in `[0, 1)`.
        label_dropout: Share of the examples whose label is hidden in training, in `[0, 1)`: what `guidance` needs.
        ema: Decay of the average of the weights that samples are made with, in `[0, 1)`; shorter in the first steps.
        adapt: Training data that vectors are standardised by, if `recipes.fit` does not train the model.
        learning_rate: Peak learning rate of AdamW, for batches of 64.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled `Diffusion`: `fit(x)`, or `fit(x, labels)` with classes; then `sample(n)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> points = np.random.default_rng(0).normal(size=(64, 2)) * [1, 10] + [0, 5]
    >>> model = diffusion((2,), num_classes=3, width=16, depth=1, adapt=points)
    >>> history = model.fit(points, np.arange(64) % 3, verbose=0)
    >>> model.sample(2, labels=[0, 2], steps=8, guidance=2.0, seed=0).shape
    (2, 2)

    Reference:
        [Karras et al., 2022](https://arxiv.org/abs/2206.00364), table 1, and the papers above `VARIANTS`.
    """
    check_arguments(input_shape, num_classes, variant, VARIANTS)
    row = VARIANTS[variant]
    target = target or row["target"]
    denoiser = denoiser or ("dense" if len(input_shape) == 1 else row["denoiser"])
    check_choice("target", target, TARGETS)
    check_choice("denoiser", denoiser, ("dense",) if len(input_shape) == 1 else ("unet", "transformer"))
    check_fraction("dropout", dropout)
    check_fraction("label_dropout", label_dropout)
    check_decay("ema", ema)
    make, sizes = DENOISERS[denoiser]
    width, depth = sizes["width"] if width is None else width, sizes["depth"] if depth is None else depth
    check_count("depth", depth)
    check_count("width", width)
    if width % 16:
        raise ValueError(f"width must be a multiple of 16. Received: width={width}")
    sizes = {"width": width, "depth": depth, "dropout": dropout}
    if denoiser != "dense":
        sizes["patch_size"] = default_patch(input_shape, denoiser) if patch_size is None else patch_size
        check_patch(sizes["patch_size"], input_shape)
    elif patch_size is not None:
        raise ValueError(f"patch_size must be None for vectors. Received: patch_size={patch_size}")
    betas = row.get("betas") if betas is None else betas
    model = Diffusion(
        input_shape,
        num_classes,
        network=make(input_shape, num_classes, **sizes),
        target=target,
        betas=betas,
        log_noise=None if betas is not None else row["log_noise"],
        label_dropout=label_dropout,
        ema=ema,
        name=name,
    )
    adapt_vectors(model, adapt)
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,  # as EDM; DDPM's 2e-4 belongs to a network of 36 million weights
        weight_decay=weight_decay,
        global_clipnorm=1.0,
        schedule="WarmupCosine",
        epochs=30,
        batch_size=64 if model.images else 256,
    )


@keras.saving.register_keras_serializable("recipes")
class Diffusion(GenerativeModel):
    """A network that guesses what is noise in noisy data, and the average of its weights, which samples are made with.

    Args:
        data_shape, num_classes: As in `GenerativeModel`.
        network: Model of `recipes.generative.denoisers`, or one with the same inputs and output.
        target: What the network guesses, one of `recipes.generative.noising.TARGETS`.
        betas: What `table_of_sigmas` takes, for levels drawn evenly from a table; or `None`.
        log_noise: Mean and standard deviation of the logarithm of levels drawn from a normal distribution; or `None`.
        label_dropout: Share of labels that are hidden in training.
        ema: Decay of the average.
        **kwargs: `name` and `dtype`.
    """

    def __init__(
        self, data_shape, num_classes=None, *, network, target, betas, log_noise, label_dropout=0.1, ema=0.9999, **kwargs
    ):
        super().__init__(data_shape, num_classes, **kwargs)
        self.network, self.average = network, averaged_copy(network)
        self.target, self.label_dropout, self.ema = target, label_dropout, ema
        self.betas = betas if isinstance(betas, str) or betas is None else tuple(betas)
        self.log_noise = None if log_noise is None else tuple(log_noise)
        self.table = None if betas is None else table_of_sigmas(betas).astype("float32")
        self.data_std = 0.5 if self.images else 1.0  # -1..1; Karras et al., table 1
        self.seed = keras.random.SeedGenerator()
        self.average_steps = self.add_weight(name="average_steps", shape=(), initializer="zeros", trainable=False)

    # Training

    def batch_loss(self, x, labels, training):
        rows = ops.shape(x)[0]
        noise = keras.random.normal(ops.shape(x), seed=self.seed)
        sigma = self.draw_sigmas(rows)
        if labels is not None and training and self.label_dropout:
            hidden = keras.random.uniform((rows,), seed=self.seed) < self.label_dropout
            labels = ops.where(hidden, self.num_classes, labels)
        levels = self.by_row(sigma)
        about = coefficients(self.target, levels, self.data_std)
        guess = self.guess(about.scale * (x + levels * noise), sigma, labels, training)
        loss = ops.mean(ops.square(guess - (about.data * x + about.noise * noise)))
        if training:
            update_average(self.average, self.network, self.average_steps, self.ema)
        return loss

    def draw_sigmas(self, rows):
        """Return the levels of a batch of training, float32 `(rows,)`."""
        if self.table is None:
            mean, std = self.log_noise
            return ops.exp(mean + std * keras.random.normal((rows,), seed=self.seed))
        place = ops.floor(keras.random.uniform((rows,), seed=self.seed) * len(self.table))
        return ops.take(self.table, ops.minimum(ops.cast(place, "int32"), len(self.table) - 1))

    def guess(self, scaled, sigma, labels, training=False):
        """Return what the network puts out, in training the one that learns, else the average."""
        inputs = {"data": scaled, "noise": ops.log(sigma)}
        if self.num_classes is not None:
            inputs["label"] = labels
        return (self.network if training else self.average)(inputs, training=training)

    def by_row(self, sigma):
        """Give levels `(batch,)` the shape `(batch, 1, ...)` that data can be multiplied by."""
        return ops.reshape(sigma, (-1, *[1] * len(self.data_shape)))

    # Sampling

    def denoise(self, x, sigma, labels=None, guidance=1.0):
        """Guess the clean data in noisy ones, both in the scale of the networks.

        Args:
            x: `data + sigma * noise`, float tensor `(batch, *data_shape)`.
            sigma: Level, a scalar tensor or one for each row, `(batch,)`.
            labels: Class ids `(batch,)` of a conditional model; id `num_classes` is no class.
            guidance: Float: 1 guesses data of the class, 0 any data, more than 1 goes beyond the class.

        Returns:
            Float32 tensor of the shape of `x`.

        Reference:
            [Ho & Salimans, 2022](https://arxiv.org/abs/2207.12598), equation 6, with `guidance = 1 + w`.
        """
        if self.num_classes is not None and guidance != 1:
            unknown = ops.full_like(labels, self.num_classes)
            if guidance == 0:
                return self.denoise(x, sigma, unknown)
            sigma = ops.broadcast_to(sigma, (ops.shape(x)[0],))
            both = self.denoise(*(ops.concatenate(pair) for pair in ((x, x), (sigma, sigma), (labels, unknown))))
            told, any_class = ops.split(both, 2)
            return any_class + guidance * (told - any_class)
        sigma = ops.broadcast_to(sigma, (ops.shape(x)[0],))
        levels = self.by_row(sigma)
        about = coefficients(self.target, levels, self.data_std)
        return about.skip * x + about.out * self.guess(about.scale * x, sigma, labels)

    def sample(self, n, *, labels=None, seed=None, steps=20, sampler="dpm_solver", guidance=1.0, batch_size=ROWS):
        """Make new data.

        Args:
            n, labels, seed, batch_size: As in `GenerativeModel.sample`.
            steps: Number of steps from noise to data, at least 2.
            sampler: `"dpm_solver"`, `"heun"` (twice the work a step), `"ddim"` or `"euler"`.
            guidance: How much the class counts, for a model with classes: 1 as much as in the data, 2 to 4 for clearer and
                less various samples, 0 not at all.

        Returns:
            Float32 array `(n, *data_shape)`: images 0..255, or vectors in the units of the data.

        Raises:
            ValueError: If an argument is out of its range, or the statistics of vectors are not set.
        """
        check_count("steps", steps, minimum=2)
        check_choice("sampler", sampler, SAMPLERS)
        if not 0 <= guidance < float("inf"):
            raise ValueError(f"guidance must be a finite number >= 0. Received: guidance={guidance!r}")
        if guidance != 1 and self.num_classes is None:
            raise ValueError(f"guidance must be 1 without num_classes. Received: guidance={guidance!r}")
        return self.draw(n, labels, seed, batch_size, steps=steps, sampler=sampler, guidance=float(guidance))

    def generate_batch(self, noise, labels, seed, steps, sampler, guidance):
        sigmas = self.sigmas(steps)

        def denoise(x, sigma):
            guess = self.denoise(x, sigma, labels, guidance)
            return ops.clip(guess, -1.0, 1.0) if self.images else guess  # no pixel lies outside

        return SAMPLERS[sampler](denoise, noise * sigmas[0], sigmas)

    def sigmas(self, steps):
        """Return the levels that a sampler of so many steps goes through, `(steps + 1,)`."""
        if self.table is not None:
            # beyond 80 nothing is left of the data; cosine betas end at 20,000, and few steps would be left for the rest
            return karras_sigmas(steps, float(self.table[0]), min(80.0, float(self.table[-1])))
        return flow_sigmas(steps) if self.target == "flow" else karras_sigmas(steps)

    def add_noise(self, x, level, *, seed=0):
        """Return data as noisy as training shows them, in the scale of the network.

        Args:
            x: Data as `fit` takes them, `(n, *data_shape)`.
            level: With `betas` the number of the step, 0 to 999; for `"flow"` the time in `[0, 1)`; else sigma, at least 0.
            seed: Integer that fixes the noise.

        Returns:
            Float32 array `(n, *data_shape)`.

        Raises:
            ValueError: If `level` is out of its range.
        """
        sigma = self.sigma_of(level)
        noise = np.random.default_rng(seed).standard_normal(np.shape(x), "float32")
        about = coefficients(self.target, ops.convert_to_tensor(sigma, "float32"), self.data_std)
        return ops.convert_to_numpy(about.scale * (self.to_network(x) + sigma * noise))

    def sigma_of(self, level):
        """Return the sigma of a step, a time or a level, as in `add_noise`."""
        if self.table is not None:
            if isinstance(level, bool) or not isinstance(level, (int, np.integer)) or not 0 <= level < len(self.table):
                raise ValueError(f"level must be an integer, 0..{len(self.table) - 1}: a step. Received: level={level!r}")
            return float(self.table[level])
        end, meaning = (1, "a time in [0, 1)") if self.target == "flow" else (float("inf"), "a finite sigma >= 0")
        if not 0 <= level < end:
            raise ValueError(f"level must be {meaning}. Received: level={level!r}")
        return level / (1 - level) if self.target == "flow" else float(level)

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "target": self.target,
            "betas": self.betas,
            "log_noise": self.log_noise,
            "label_dropout": self.label_dropout,
            "ema": self.ema,
        }


def default_patch(input_shape, denoiser):
    """Return the side of patches that suits the size of the images and divides it."""
    wanted = max(input_shape[:2]) // 7 if denoiser == "transformer" else 1 + (max(input_shape[:2]) >= 24)
    return max(size for size in (1, 2, 4, 8, 16) if size <= max(1, wanted) and not any(n % size for n in input_shape[:2]))


def check_patch(patch_size, input_shape):
    """Raise `ValueError` unless patches of that size fill the image."""
    check_count("patch_size", patch_size)
    if any(side % patch_size for side in input_shape[:2]):
        raise ValueError(
            f"patch_size must divide both sides of the image, {tuple(input_shape[:2])}. Received: patch_size={patch_size}"
        )


def diffusion_space(hp):
    """Return keyword arguments of `diffusion` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "variant": hp.Choice("variant", ["edm", "v", "flow"]),
        "width": hp.Choice("width", [32, 64, 96, 128]),
        "depth": hp.Int("depth", 1, 3),
        "dropout": hp.Float("dropout", 0.0, 0.3, step=0.1),
        "learning_rate": hp.Float("learning_rate", 2e-4, 4e-3, sampling="log"),
    }
