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
    samples: bool = True  # whether there is anything to sample from
    bfloat16: float = 0.05  # relative difference of the first loss that mixed precision may make
    mirrored: bool = True  # whether two devices must train to what one does; not if the loss looks across the batch
    compile: bool = False  # whether XLA compiles and runs the training step, besides lowering it
    layers_of: str | None = None  # name of a row with the same kinds of layers: what these can break is left to it
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
GENERATIVE_FAMILIES = []

# `GenerativeCase("vae", recipes.vae, (8, 8, 1), PICTURES, arguments={"width": 8, ...})`
GENERATIVE = []
