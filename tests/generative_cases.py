"""One small instance of every generative model, with data it can be trained on. The checks are in `tests/harness`.

A new family is a row of `GENERATIVE_FAMILIES` and one row of `GENERATIVE` for every way of building it that has code of its
own: another network, another loss, another way to condition. What is exceptional about one is a field of its row. The first
row of a builder passes more checks than its others.
"""

import dataclasses
import inspect
from collections.abc import Callable

import numpy as np

import recipes  # noqa: F401
from tests.cases import FamilyCase  # noqa: F401, for the rows


@dataclasses.dataclass(frozen=True, eq=False)
class GenerativeCase:
    """A model: `builder(shape, classes, **arguments)` with one batch of data.

    `x` is what `fit` takes: raw 0..255 integers for images, vectors in units of their own, or a dict. `y` are labels.
    """

    name: str
    builder: Callable
    shape: tuple  # of an example and of a sample
    x: np.ndarray | dict
    y: np.ndarray | None = None  # with them the model has classes, and samples take labels
    classes: int | None = None
    arguments: dict = dataclasses.field(default_factory=dict)
    steps: int = 2  # of training, after which every trainable weight has learned
    dead: tuple = ()  # regular expressions of weights that rightly get no gradient
    moving: tuple = ("average", r"moving_(mean|variance)$")  # of weights that move in training and are not trainable
    sample: dict = dataclasses.field(default_factory=dict)  # arguments of `sample` that keep it quick
    labels: np.ndarray | None = None  # what `sample` takes for them, 5 rows, where these are no classes
    samples: bool = True  # whether there is anything to sample from
    bfloat16: float = 0.05  # relative difference of the first loss that mixed precision may make
    mirrored: bool = True  # whether two devices must train to what one does; not if the loss looks across the batch
    eager: bool = True  # whether steps are not compiled on TensorFlow, where that takes longer than the steps
    compile: bool = False  # whether XLA compiles and runs the training step, besides lowering it
    layers_of: str | None = (
        None  # name of a row with the same class and layers: `make test-all` alone checks what these break
    )
    jax: bool | None = None  # whether it is fitted and sampled from on JAX too; `None`: if it is its builder's first row
    without: tuple = ()  # names of the checks that do not apply

    def build(self, **changes):
        """Return a new model."""
        usual = {"input_shape": self.shape, "num_classes": self.classes}
        taken = inspect.signature(self.builder).parameters
        positional = {name: value for name, value in usual.items() if name in taken}
        return self.builder(**{**positional, **self.arguments, **changes})

    def replace(self, **changes):
        """Return a case with other fields."""
        return dataclasses.replace(self, **changes)


def _fixed(array):
    array.setflags(write=False)  # a check that changes its input fails at once
    return array


_random = np.random.default_rng(0)
PICTURES = _fixed(_random.integers(0, 256, (8, 8, 8, 1)).astype("uint8"))
COLOURED = _fixed(_random.integers(0, 256, (8, 8, 8, 3)).astype("uint8"))
KINDS = _fixed(np.array([0, 1, 2, 0, 1, 2, 0, 1], "int32"))
VECTORS = _fixed((_random.normal(size=(8, 5)) * [1, 10, 100, 0.1, 5] + [0, 5, -300, 2, 0]).astype("float32"))

# `FamilyCase(recipes.vae, recipes.vae_space, shape=(28, 28, 1), classes=None, presets={variant: trainable parameters},
# small={...}, small_shape=(8, 8, 1), bad=(({"width": 0}, "width"), ...))`
GENERATIVE_FAMILIES = [
    FamilyCase(
        recipes.dalle,
        recipes.dalle_space,
        shape=(32, 32, 3),
        classes=None,
        presets={"tiny": 1_183_843, "small": 5_806_787, "base": 32_850_499},
        small={"variant": "tiny", "vocabulary_size": 9, "max_length": 4, "depth": 1, "width": 32, "codes": 16},
        small_shape=(8, 8, 3),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"vocabulary_size": 1}, "vocabulary_size"),
            ({"max_length": 1}, "max_length"),
            ({"padding_id": 8000}, "padding_id"),
            ({"patch_size": 6}, "patch_size"),
            ({"patch_size": 16}, "input_shape"),
            ({"codes": 1}, "codes"),
            ({"width": 40}, "width"),
            ({"depth": 0}, "depth"),
            ({"likelihood": "laplacian"}, "likelihood"),
            ({"kl_weight": -1.0}, "kl_weight"),
            ({"first_stage": 0.6}, "first_stage"),
            ({"dropout": 1.0}, "dropout"),
            ({"text_dropout": 1.0}, "text_dropout"),
            ({"learning_rate": -1.0}, "learning_rate"),
        ),
        zeros=lambda shape: {"text": np.ones((2, 4), "int32"), "image": np.zeros((2, *shape), "uint8")},
    ),
    FamilyCase(
        recipes.diffusion,
        recipes.diffusion_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"edm": 1_886_404, "ddpm": 1_886_404, "v": 1_886_404, "flow": 1_886_404, "dit": 1_843_088},
        small={"width": 16, "depth": 1},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"target": "x"}, "target"),
            ({"denoiser": "dense"}, "denoiser"),
            ({"width": 24}, "width"),
            ({"depth": 0}, "depth"),
            ({"patch_size": 3}, "patch_size"),
            ({"betas": (0.0, 0.02)}, "betas"),
            ({"betas": (1e-4, 1.0)}, "betas"),
            ({"betas": "linear"}, "betas"),
            ({"dropout": 1.0}, "dropout"),
            ({"label_dropout": -0.1}, "label_dropout"),
            ({"ema": 1.0}, "ema"),
            ({"num_classes": 1}, "num_classes"),
        ),
    ),
    FamilyCase(
        recipes.autoencoder,
        recipes.autoencoder_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"small": 270_561, "base": 1_811_649, "dense": 542_496},
        small={"width": 8, "latent": 2},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"latent": 0}, "latent"),
            ({"width": 0}, "width"),
            ({"depth": -1}, "depth"),
            ({"noise": -0.1}, "noise"),
            ({"adapt": VECTORS}, "adapt"),
            ({"input_shape": (1, 8, 8)}, "input_shape"),
            ({"input_shape": (5,), "variant": "small"}, "variant"),
        ),
    ),
    FamilyCase(
        recipes.vae,
        recipes.vae_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"small": 379_266, "base": 2_229_634, "dense": 547_665},
        small={"width": 8, "latent": 2},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"latent": 0}, "latent"),
            ({"components": 0}, "components"),
            ({"likelihood": "poisson"}, "likelihood"),
            ({"input_shape": (5,), "likelihood": "bernoulli"}, "likelihood"),
            ({"beta": -1.0}, "beta"),
            ({"kl_warmup": 1.0}, "kl_warmup"),
            ({"free_bits": float("inf")}, "free_bits"),
            ({"num_classes": 1}, "num_classes"),
        ),
    ),
    FamilyCase(
        recipes.vqvae,
        recipes.vqvae_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"small": 994_769, "base": 13_589_777, "dense": 775_056},
        small={"width": 8, "prior_width": 32, "prior_depth": 1},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"codes": 1}, "codes"),
            ({"prior_width": 40}, "prior_width"),
            ({"prior_depth": 0}, "prior_depth"),
            ({"commitment": -1.0}, "commitment"),
            ({"dropout": 1.0}, "dropout"),
        ),
    ),
    FamilyCase(
        recipes.gan,
        recipes.gan_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"dcgan": 898_369, "wgan_gp": 1_073_856, "r3gan": 1_339_137},
        small={"width": 8, "latent": 4},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"width": 0}, "width"),
            ({"latent": 0}, "latent"),
            ({"penalty": -1.0}, "penalty"),
            ({"n_critic": 5}, "n_critic"),
            ({"variant": "wgan_gp", "n_critic": 0}, "n_critic"),
            ({"ema": 1.0}, "ema"),
            ({"augment": "flip"}, "augment"),
            ({"augment": ("turn",)}, "augment"),
            ({"input_shape": (5,), "augment": ("flip",)}, "augment"),
            ({"input_shape": (9, 9, 1)}, "input_shape"),
            ({"variant": "r3gan", "weights": "file.pth"}, "weights"),
            ({"num_classes": 1}, "num_classes"),
        ),
    ),
    FamilyCase(
        recipes.stylegan,
        recipes.stylegan_space,
        shape=(28, 28, 1),
        classes=None,
        presets={"compact": 1_443_081, "stylegan2": 8_313_097},
        small={"width": 8, "latent": 4},
        small_shape=(8, 8, 1),
        bad=(
            ({"variant": "huge"}, "variant"),
            ({"width": 0}, "width"),
            ({"latent": 0}, "latent"),
            ({"mapping_depth": 0}, "mapping_depth"),
            ({"penalty": -1.0}, "penalty"),
            ({"path_length": -1.0}, "path_length"),
            ({"mixing": 1.5}, "mixing"),
            ({"ema": 1.0}, "ema"),
            ({"augment": ("turn",)}, "augment"),
            ({"input_shape": (9, 9, 1)}, "input_shape"),
        ),
    ),
]

CAPTIONED = {"text": _fixed(np.array([[1, 4, 2, 0], [1, 5, 6, 2]] * 4, "int32")), "image": COLOURED}

# `GenerativeCase("vae", recipes.vae, (8, 8, 1), PICTURES, arguments={"width": 8, ...})`
GENERATIVE = [
    GenerativeCase(
        "dalle",
        recipes.dalle,
        (8, 8, 3),
        CAPTIONED,
        arguments={
            **{"variant": "tiny", "vocabulary_size": 9, "max_length": 4, "codes": 16, "width": 32, "depth": 1},
            **{"first_stage": 0.5, "dropout": 0.1},
        },
        moving=(r"steps$", r"moving_(mean|variance)$"),
        labels=CAPTIONED["text"],
        jax=False,  # tests/test_dalle.py is
    ),
    GenerativeCase(
        "autoencoder",
        recipes.autoencoder,
        (8, 8, 1),
        PICTURES,
        arguments={"width": 8, "latent": 3, "noise": 0.3},
        samples=False,
    ),
    GenerativeCase(
        "vae",
        recipes.vae,
        (8, 8, 1),
        PICTURES,
        KINDS,
        3,
        arguments={"width": 8, "depth": 1, "latent": 3, "free_bits": 0.1},
    ),
    GenerativeCase(
        "vae_vectors",
        recipes.vae,
        (5,),
        VECTORS,
        arguments={"width": 8, "depth": 1, "components": 3, "adapt": VECTORS},
        layers_of="vae",
    ),
    GenerativeCase(
        "vae_bernoulli",
        recipes.vae,
        (8, 8, 1),
        PICTURES,
        arguments={"variant": "dense", "width": 8, "depth": 1, "latent": 3, "components": 1, "likelihood": "bernoulli"},
        layers_of="vae",
    ),
    GenerativeCase(
        "vqvae",
        recipes.vqvae,
        (8, 8, 1),
        PICTURES,
        KINDS,
        3,
        arguments={"codes": 8, "width": 8, "depth": 0, "prior_width": 32, "prior_depth": 1, "dropout": 0.0},
        moving=(r"quantizer/(usage|sums)$",),
    ),
    GenerativeCase(
        "vqvae_vectors",
        recipes.vqvae,
        (5,),
        VECTORS,
        arguments={
            "codes": 8,
            "width": 8,
            "depth": 1,
            "prior_width": 32,
            "prior_depth": 1,
            "dropout": 0.0,
            "adapt": VECTORS,
        },
        moving=(r"quantizer/(usage|sums)$", "residual$"),
        layers_of="vqvae",
    ),
    GenerativeCase(
        "diffusion",
        recipes.diffusion,
        (5,),
        VECTORS,
        KINDS,
        3,
        arguments={"variant": "ddpm", "width": 16, "depth": 1, "adapt": VECTORS},
        steps=5,  # what starts at zero lets the gradient pass one step after another
        sample={"steps": 2, "guidance": 2.0},
        without=("check_gpu",),  # the U-Net has every kind of layer
    ),
    GenerativeCase(
        "diffusion_unet",
        recipes.diffusion,
        (8, 8, 1),
        PICTURES,
        arguments={"width": 16},
        steps=5,
        sample={"steps": 2},
        mirrored=False,  # the loss is that of the row before, which is quicker
        without=("check_inputs", "check_saves", "check_bfloat16"),
    ),
    GenerativeCase(
        "diffusion_transformer",
        recipes.diffusion,
        (8, 8, 1),
        PICTURES,
        arguments={"variant": "dit", "width": 16, "depth": 1, "patch_size": 2, "dropout": 0.1},
        steps=5,
        sample={"steps": 2, "sampler": "heun"},
        mirrored=False,
        layers_of="diffusion_unet",
        without=("check_inputs", "check_saves", "check_samples"),
    ),
    GenerativeCase(
        "gan", recipes.gan, (8, 8, 3), COLOURED, arguments={"width": 8, "latent": 4, "augment": ("colour", "cutout")}
    ),
    GenerativeCase(
        "gan_wasserstein",
        recipes.gan,
        (5,),
        VECTORS,
        arguments={"variant": "wgan_gp", "width": 8, "latent": 4, "n_critic": 2, "adapt": VECTORS},
        layers_of="gan",
    ),
    GenerativeCase(
        "gan_relativistic",
        recipes.gan,
        (8, 8, 1),
        PICTURES,
        KINDS,
        3,
        arguments={"variant": "r3gan", "width": 8, "latent": 4},
        steps=3,  # what starts at zero lets the gradient pass one step after another
    ),
    GenerativeCase(
        "stylegan",
        recipes.stylegan,
        (8, 8, 1),
        PICTURES,
        KINDS,
        3,
        arguments={
            **{"width": 4, "latent": 4, "path_length": 2.0, "mixing": 0.5},
            "augment": ("translation", "flip", "scale"),
        },
        sample={"truncation": 0.9},
        mirrored=False,  # the discriminator compares the examples of a batch
        jax=False,  # compiling takes 40 seconds; the next row takes the same turns
    ),
    GenerativeCase(
        "stylegan_vectors",
        recipes.stylegan,
        (5,),
        VECTORS,
        arguments={"width": 8, "latent": 4, "adapt": VECTORS},
        mirrored=False,
        layers_of="stylegan",
        jax=True,
        without=("check_inputs",),
    ),
]
