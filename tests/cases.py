"""One small instance of everything, with data it can be trained on. The checks in `tests/harness` know no family.

A new layer is a row of `LAYERS`; a new family a row of `FAMILIES` and one row of `RECIPES` for every way of building it
that has code of its own. What is exceptional about one is a field of its row.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

import recipes
from recipes.layers import CategoryEmbedding, Standardize


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer. `arguments` gives every argument of its own a value that is not the default."""

    name: str
    layer: type
    arguments: dict
    x: np.ndarray  # at least three examples
    learns: tuple = ()  # names of the weights that training changes
    keeps: tuple = ()  # names of the weights that it does not
    prepare: Callable = lambda layer, x: None  # called on the built layer: state that initializers do not give
    random: bool = False  # whether the output is random in training
    bad: tuple = ()  # (changed arguments, name that the ValueError must mention)

    def make(self, **changes):
        """Return a new layer, not built."""
        return self.layer(**{**self.arguments, **changes})


@dataclasses.dataclass(frozen=True, eq=False)
class FamilyCase:
    """A builder: what is said once, whatever the arguments."""

    builder: Callable
    space: Callable
    shape: tuple  # of the presets
    classes: int
    presets: dict  # variant: number of trainable parameters
    small: dict  # arguments that keep a model of the search space small enough to try
    small_shape: tuple
    bad: tuple  # (arguments, name that the ValueError must mention)

    @property
    def name(self):
        return self.builder.__name__


@dataclasses.dataclass(frozen=True, eq=False)
class RecipeCase:
    """A model: `builder(shape, classes, **arguments)` with one batch of data."""

    name: str
    builder: Callable
    shape: tuple
    classes: int
    x: np.ndarray | dict
    y: np.ndarray
    start: float  # loss before training
    arguments: dict = dataclasses.field(default_factory=dict)
    plain: dict = dataclasses.field(  # arguments that switch regularisation off
        default_factory=lambda: {"dropout": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0}
    )
    dead: tuple = ()  # regular expressions of weights that rightly get no gradient
    steps: int = 300  # at most, to overfit the batch
    bfloat16: float = 0.02  # relative difference of the first losses that mixed precision may make

    def build(self, **changes):
        """Return a new model."""
        return self.builder(self.shape, self.classes, **{**self.arguments, **changes})


def _fixed(array):
    array.setflags(write=False)  # a check that changes its input fails at once
    return array


_random = np.random.default_rng(0)
IMAGES = _fixed(_random.integers(0, 256, (12, 8, 8, 3)).astype("uint8"))
ROWS = _fixed((_random.normal(size=(12, 5)) * [1, 10, 100, 0.1, 5] + [0, 5, -300, 2, 0]).astype("float32"))
CATEGORIES = _fixed(np.stack([_random.integers(0, n, 12) for n in (3, 7)], axis=1).astype("int32"))
LABELS = _fixed(np.tile(np.arange(3, dtype="int32"), 4))
MANY_LABELS = _fixed(_random.integers(0, 2, (12, 4)).astype("float32"))
TARGETS = _fixed((_random.normal(size=(12, 2)) * [20, 0.5] + [500, -3]).astype("float32"))
TABLE = {"numeric": ROWS, "categories": CATEGORIES}

LAYERS = [
    LayerCase(
        "standardize",
        Standardize,
        {"invert": True},
        ROWS,
        keeps=("mean", "std", "count"),
        prepare=lambda layer, x: layer.adapt(x),
    ),
    LayerCase("category_embedding", CategoryEmbedding, {"sizes": (3, 7), "width": 4}, CATEGORIES, learns=("table",)),
]

FAMILIES = [
    FamilyCase(
        recipes.mlp,
        recipes.mlp_space,
        shape=(10,),
        classes=3,
        presets={"small": 135_171, "base": 795_139},
        small={"adapt": (ROWS, LABELS)},
        small_shape=(5,),
        bad=(
            ({"input_shape": (4, 4)}, "input_shape"),
            ({"input_shape": (0,)}, "input_shape"),
            ({"num_classes": 1}, "num_classes"),
            ({"num_classes": 2.5}, "num_classes"),
            ({"variant": "huge"}, "variant"),
            ({"task": "guess"}, "task"),
            ({"hidden": (8, 0)}, "hidden"),
            ({"categories": (3, -1)}, "categories"),
            ({"dropout": 1.0}, "dropout"),
            ({"label_smoothing": 1.5}, "label_smoothing"),
            ({"learning_rate": -1.0}, "learning_rate"),
            ({"weight_decay": -1.0}, "weight_decay"),
            ({"activation": "reluu"}, "activation"),
            ({"task": "regress", "adapt": ROWS}, "adapt"),
        ),
    ),
    FamilyCase(
        recipes.resnet,
        recipes.resnet_space,
        shape=(224, 224, 3),
        classes=1000,
        presets={
            "18": 11_689_512,  # to 152: as torchvision counts them
            "34": 21_797_672,
            "50": 25_557_032,
            "101": 44_549_160,
            "152": 60_192_808,
            "cifar20": 0,
            "cifar32": 0,
            "cifar44": 0,
            "cifar56": 0,
            "cifar110": 0,
        },
        small={"depths": (1, 1), "widths": (8, 16)},
        small_shape=(8, 8, 3),
        bad=(
            ({"input_shape": (28, 28)}, "input_shape"),
            ({"input_shape": (3, 32, 32)}, "input_shape"),
            ({"input_shape": (4, 4, 3)}, "input_shape"),
            ({"num_classes": 0}, "num_classes"),
            ({"variant": "19"}, "variant"),
            ({"weights": "resnet50.pth"}, "weights"),
            ({"stem": "big"}, "stem"),
            ({"block": "wide"}, "block"),
            ({"depths": (1, 1), "widths": (8,)}, "depths"),
            ({"depths": (1, 0), "widths": (8, 16)}, "depths"),
            ({"depths": (1, 1), "widths": (8, 0)}, "widths"),
            ({"task": "guess"}, "task"),
            ({"dropout": -0.1}, "dropout"),
            ({"label_smoothing": 1.0}, "label_smoothing"),
            ({"learning_rate": -1.0}, "learning_rate"),
            ({"weight_decay": -1.0}, "weight_decay"),
        ),
    ),
]

RECIPES = [
    RecipeCase(
        "mlp",
        recipes.mlp,
        (5,),
        3,
        ROWS,
        LABELS,
        start=math.log(3),
        arguments={"hidden": (32, 32), "adapt": ROWS, "label_smoothing": 0.1},
    ),
    RecipeCase(
        "mlp_categories",
        recipes.mlp,
        (5,),
        3,
        TABLE,
        LABELS,
        start=math.log(3),
        arguments={"hidden": (32, 32), "adapt": TABLE, "categories": (3, 7)},
    ),
    RecipeCase(
        "mlp_multilabel",
        recipes.mlp,
        (5,),
        4,
        ROWS,
        MANY_LABELS,
        start=math.log(2),
        arguments={"hidden": (32, 32), "adapt": ROWS, "task": "multilabel"},
    ),
    RecipeCase(
        "mlp_regress",
        recipes.mlp,
        (5,),
        2,
        ROWS,
        TARGETS,
        start=1.0,
        arguments={"hidden": (32, 32), "adapt": (ROWS, TARGETS), "task": "regress"},
    ),
    RecipeCase(
        "resnet",
        recipes.resnet,
        (8, 8, 3),
        3,
        IMAGES,
        LABELS,
        start=math.log(3),
        arguments={"depths": (1, 1), "widths": (8, 16), "dropout": 0.1},
    ),
    RecipeCase(
        "resnet_bottleneck",
        recipes.resnet,
        (16, 16, 3),
        3,
        _fixed(IMAGES.repeat(2, axis=1).repeat(2, axis=2)),
        LABELS,
        start=math.log(3),
        arguments={"block": "bottleneck", "stem": "imagenet", "depths": (1, 1), "widths": (8, 16)},
    ),
]
