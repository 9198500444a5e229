"""`load`: one call from a name, a file or a folder to arrays in three parts."""

import dataclasses
import difflib
import os
import pathlib
import typing

import numpy as np

from recipes.data.splitting import check_fraction, check_seed, count, held_count, leaves, split_rows, take

BUNDLED = ("digits", "wine", "breast_cancer", "diabetes")


@dataclasses.dataclass(frozen=True)
class Info:
    """What `load` learnt about the data: plain Python values, in the terms the builders take.

    Attributes:
        source: The name or path that was loaded.
        task: `"classify"` or `"regress"`.
        num_classes: Number of classes, or of targets to regress.
        input_shape: Shape of one sample: `(height, width, channels)`, or `(numeric columns,)` for a table.
        class_names: Name of every class id, in order; `None` to regress.
        feature_names: Names of the numeric columns of a table.
        categories: Number of codes of every categorical column, the reserved 0 included.
        category_values: Categorical column to the texts of its codes 1, 2, ...; code 0 is unknown or missing.
        filled: Numeric column to the median that replaced its missing values.
        target: Name of the target's column in a table.
    """

    source: str
    task: str
    num_classes: int
    input_shape: tuple
    class_names: tuple | None = None
    feature_names: tuple = ()
    categories: tuple = ()
    category_values: dict = dataclasses.field(default_factory=dict)
    filled: dict = dataclasses.field(default_factory=dict)
    target: str | None = None


class Data(typing.NamedTuple):
    """Three parts of one data set and what is known about it.

    Attributes:
        train: `(x, y)` to learn from.
        validation: `(x, y)` to choose by, or `None`.
        test: `(x, y)` to measure with, once, or `None`.
        info: An `Info`.
    """

    train: tuple
    validation: tuple | None
    test: tuple | None
    info: Info


@dataclasses.dataclass
class Source:
    """What a reader found, before the splits that are missing are made.

    `parts` holds `"train"` and, where the source brings them, `"validation"` and `"test"`: `(x, y)` each. `encode`
    takes the finished parts and returns them with what it learnt from the training part, as keyword arguments of
    `Info`.
    """

    parts: dict
    task: str
    num_classes: int
    class_names: tuple | None = None
    feature_names: tuple = ()
    target: str | None = None
    encode: typing.Callable | None = None


def load(
    name_or_path,
    *,
    target=None,
    task=None,
    image_size=None,
    drop=(),
    data_dir=None,
    validation=0.1,
    test=0.2,
    seed=0,
):
    """Load a data set by name, file or folder and splits it for training, choosing and measuring.

    The sources:

    * `"digits"`, `"wine"`, `"breast_cancer"`, `"diabetes"`: the sets that scikit-learn brings, no download. The digits
      are images `(8, 8, 1)` whose 0..16 become 0..255: `round(255 * value / 16)`.
    * A folder with a folder of images for every class; or with `train`, `test`, `val` folders of such folders. Images
      become RGB, upright as their EXIF data say, transparent ones on white. Classes are numbered in the order of their
      names.
    * A `.csv`, `.tsv` or the same with `.gz`. Numeric columns become float32, and a missing value the median of the
      training part; columns with any text become integer categories learnt from the training part, 0 for unknown or
      missing. `x` is then a dict `{"numeric", "categories"}`. Missing is an empty field or `NA`, `N/A`, `NaN`, `null`,
      `None`, `?`.
    * An `.npz` with `x_train`, `y_train`, `x_test`, `y_test` (and `x_val`, `y_val`), or with `x` and `y`. A stack of
      uint8 matrices counts as grey images and gets a channel axis; integer targets are classes, floating ones are
      regressed.
    * `"tfds:NAME"`, a dataset of TensorFlow Datasets with one input and one label, downloaded if it is not there yet.

    A split that the source brings is kept as it is; one that it lacks is taken out of the training part, stratified by
    class. Duplicates stay where they fall. Classes are numbered from 0 in the order of their sorted labels, which
    `info.class_names` keeps. Everything is held in memory.

    Args:
        name_or_path: One of the above.
        target: Column of a table to predict. Default: the last column if it is called "target".
        task: `"classify"` or `"regress"`. Default: texts are classes; so are whole numbers of at most 20 different
            values in a table and integers of any number in an `.npz`; other numbers are regressed.
        image_size: `(height, width)` in pixels, or one number for both, to resize images to: bilinear with
            antialiasing, without keeping the aspect ratio. Needed where images differ in size.
        drop: Columns of a table to leave out, by name.
        data_dir: Where `tfds:` keeps its files. Default: `TFDS_DATA_DIR`, else its own.
        validation: Share of the samples to choose by, in [0, 1), where the source brings none; 0 for none.
        test: Share of the samples to measure with, in [0, 1), where the source brings none; 0 for none.
        seed: Whole number that decides the split.

    Returns:
        `Data(train, validation, test, info)`. Each part is `(x, y)`: images uint8 `(samples, height, width, channels)`,
        tables float32 `(samples, columns)`; class ids int32 or targets float32, `(samples,)`.

    Raises:
        ValueError: If the source is unknown or broken, needs another argument, or cannot be split as asked.

    Example:

    >>> data = load("digits")
    >>> x, y = data.train
    >>> x.shape, str(x.dtype), data.info.num_classes
    ((1258, 8, 8, 1), 'uint8', 10)
    """
    check_splits(validation, test, seed)
    if task not in (None, "classify", "regress"):
        raise ValueError(f'task must be "classify", "regress" or None. Received: task={task!r}')
    name = os.fspath(name_or_path) if isinstance(name_or_path, os.PathLike) else name_or_path
    if not isinstance(name, str):
        raise ValueError(f"name_or_path must be a name or a path. Received: {type(name_or_path).__name__}")
    source = _read(name, target=target, task=task, image_size=pair_of_sides(image_size), drop=drop, data_dir=data_dir)
    parts = complete(source.parts, validation, test, seed, stratify=source.task == "classify")
    learnt = {}
    if source.encode is not None:
        parts, learnt = source.encode(parts)
    first = leaves(parts["train"][0])[0]
    info = Info(
        source=name,
        task=source.task,
        num_classes=source.num_classes,
        input_shape=learnt.pop("input_shape", first.shape[1:]),
        class_names=source.class_names,
        target=source.target,
        **{"feature_names": source.feature_names, **learnt},
    )
    return Data(parts["train"], parts.get("validation"), parts.get("test"), info)


def _read(name, *, target, task, image_size, drop, data_dir):
    """The `Source` behind a name; arguments that it has no use for are refused."""
    path = pathlib.Path(name).expanduser()
    lower = path.name.lower()
    if name.startswith("tfds:"):
        _refuse(name, target=target, drop=drop)
        from recipes.data.catalogue import read_tfds

        return read_tfds(name.removeprefix("tfds:"), task, image_size, data_dir)
    if name in BUNDLED:
        _refuse(name, target=target, task=task, drop=drop, data_dir=data_dir)
        from recipes.data.bundled import read_bundled

        return read_bundled(name, image_size)
    if path.is_dir():
        _refuse(name, target=target, task=task, drop=drop, data_dir=data_dir)
        from recipes.data.images import read_folder

        return read_folder(path, image_size)
    if path.is_file() and lower.removesuffix(".gz").endswith((".csv", ".tsv")):
        _refuse(name, image_size=image_size, data_dir=data_dir)
        from recipes.data.table import read_table

        return read_table(path, target, task, drop)
    if path.is_file() and lower.endswith(".npz"):
        _refuse(name, target=target, drop=drop, data_dir=data_dir)
        from recipes.data.arrays import read_npz

        return read_npz(path, task, image_size)
    if path.is_file():
        raise ValueError(f"name_or_path: cannot read {name!r}. It must end in .csv, .tsv (or .gz after it) or .npz.")
    near = difflib.get_close_matches(name, BUNDLED, n=1)
    raise ValueError(
        f"name_or_path: there is no file or folder {name!r}, and no data set of that name. "
        + (f"Did you mean {near[0]!r}? " if near else "")
        + f"Known names: {', '.join(BUNDLED)}; or tfds:NAME, a folder of class folders, a .csv or an .npz."
    )


def _refuse(name, **arguments):
    for argument, value in arguments.items():
        if value is not None and value != () and value != []:
            raise ValueError(f"{argument} does not apply to {name!r}. Remove it. Received: {argument}={value!r}")


def pair_of_sides(image_size):
    """Return `(height, width)` from what the user gave, or `None` from `None`."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, (int, np.integer)) else image_size
    valid = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not valid or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in pair):
        raise ValueError(
            "image_size must be (height, width) in pixels, or one positive whole number for both. "
            f"Received: image_size={image_size!r}"
        )
    return int(pair[0]), int(pair[1])


def check_splits(validation, test, seed):
    """Raise `ValueError` unless the fractions leave something to learn from."""
    check_fraction("validation", validation)
    check_fraction("test", test)
    if validation + test >= 1:
        raise ValueError(
            f"validation and test must leave samples to learn from: together less than 1. "
            f"Received: validation={validation}, test={test}"
        )
    check_seed(seed)


def complete(parts, validation, test, seed, stratify):
    """Return `parts` with the splits that the source lacks taken out of "train", test first."""
    parts = dict(parts)
    x, y = parts["train"]
    n = count(x, y)
    for part, fraction in (("test", test), ("validation", validation)):
        if part in parts or fraction == 0:
            continue
        x, y = parts["train"]
        kept, held = split_rows(y, held_count(fraction, n), seed, stratify, part)
        parts["train"], parts[part] = (take(x, kept), y[kept]), (take(x, held), y[held])
    return parts
