"""`recipes.load_weights`: the weights of any file that we read, for a model that is there already."""

import contextlib
import functools
import inspect
import os
import warnings

import keras
import numpy as np

import recipes
from recipes.weights import hub, keras_archive, keras_file, shards
from recipes.weights.errors import LeftRandom, UnsafeFileError
from recipes.weights.manifest import MANIFEST, WEIGHTS, check_folder
from recipes.weights.own_names import is_state, plain_shape, state_names, strip_legacy, weight_names
from recipes.weights.places import check_digest
from recipes.weights.reading import find_file, read_shapes, read_state_dict

SHOWN = 6  # names of each kind in an error
VARIANT = "Pass the file of this very model, or build the model that the file was made for."


def load_weights(model, path, *, sha256=None, keep=()):
    """Give a model the weights of a file: every variable exactly once and nothing left over, or nothing at all.

    The model is yours; the file adds numbers only. Its names, shapes and types are compared with those of the model before
    a number is read, numbers that are not finite are refused, and nothing in the file is executed. The state of the
    optimizer and of random layers stays as it is: `recipes.load_model` restores these, too.

    Args:
        model: Keras model.
        path: One of

            - a folder of `recipes.save`;
            - a `.weights.h5`, `.h5` or `.keras` file of Keras, of which the weights alone are read;
            - a `.safetensors` (also split, by its `.index.json`), `.pth`, `.pt`, `.bin` or `.onnx` file, or the folder
              of a model of the Hugging Face hub, or `"owner/name@<40 hexadecimal digits>"` of it.

            Its tensors have the names of the model's variables, or, for a model of a builder with an argument
            `weights`, the names of one of the libraries that this reads.
        sha256: What the sha256 of the file must be, 64 hexadecimal digits; of `manifest.json` for a folder of
            `recipes.save`; a dict of them, by the names of the files, for a split one. `None` to take any file. A changed
            number in a file without a checksum of its own shows in no other way.
        keep: Names of layers, such as `("logits",)`, that stay as they are if the file has none that fit.

    Returns:
        List of the paths of the variables that were left as they were: `[]`, or those of layers in `keep`.

    Raises:
        UnsafeFileError: A `ValueError` with `path`, `member`, `rule` and `remedy`. The model was not changed.

    Example:

    >>> model = recipes.mlp((4,), 3)
    >>> recipes.save(model, "model")
    >>> recipes.load_weights(recipes.mlp((4,), 3), "model")
    []
    """
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    unknown = set(keep) - {part for variable in model.weights for part in variable.path.split("/")}
    if unknown:
        raise ValueError(f"keep must name layers with weights. Received: {', '.join(map(repr, sorted(unknown)))}")
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path must be the path of a file or folder, or a name of the hub. Received: path={path!r}")
    if not hub.is_name(path) and os.path.isfile(os.path.join(path, MANIFEST)):
        check_folder(path, sha256)
        path = os.path.join(path, WEIGHTS)
    else:
        path = os.fspath(find_file(path))
        _check_sha256(path, sha256)
    with _open(path) as (shapes, read):
        naming = _own_naming(model, shapes)
        if naming is not None:
            for name in state_names(model).keys() - naming.keys():  # seeds, metrics and the like
                shapes.pop(name, None)
            variables, left = _match(model, path, naming, shapes, keep)
            pairs = [(variable, _convert(path, name, variable, read(name))) for name, variable in variables.items()]
    if naming is None:
        pairs, left = _read_foreign(model, path, keep)
    for variable, array in pairs:
        variable.assign(array)
    _refresh(model)
    return left


@contextlib.contextmanager
def _open(path):
    """Give `{name: (shape, dtype)}` of the weights in a file, and a function that reads the array of a name."""
    here = os.path.isfile(path)
    if here and _starts_with(path, keras_file.MAGIC):
        opened = keras_file.open_members(path)
    elif here and keras_archive.is_keras_archive(path):
        opened = keras_file.open_members(path, keras_archive.check_archive(path))
    else:
        read_all = functools.cache(lambda: read_state_dict(path))
        yield read_shapes(path), lambda name: read_all()[name]
        return
    with opened as arrays:
        arrays = {strip_legacy(name): array for name, array in arrays.items() if not is_state(name)}
        yield {name: (array.shape, array.dtype) for name, array in arrays.items()}, lambda name: arrays[name][()]


def _check_sha256(path, sha256):
    """Refuse a file, or the shards of a split one, with another digest."""
    if sha256 is None or not os.path.isfile(path):  # what is no file is refused in a moment
        return
    if not path.endswith(".index.json"):
        check_digest(path, sha256)
        return
    names = {*shards.list_shards(path)}
    if not isinstance(sha256, dict) or sha256.keys() != names:
        raise ValueError(f"sha256 must be a dict with a digest for each of {', '.join(sorted(names))}.")
    for name, digest in sha256.items():
        check_digest(os.path.join(os.path.dirname(path), name), digest)


def _starts_with(path, magic):
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _own_naming(model, shapes):
    """Return the names of `weight_names` that a file uses, or `None` if they are another library's.

    A model that can read other libraries' files has a share of names by chance: `LSTM`s are called `lstm` everywhere.
    """
    namings = weight_names(model)
    best = max(namings, key=lambda naming: len(naming.keys() & shapes.keys()))
    share = len(best.keys() & shapes.keys()) / max(1, len(shapes))
    return best if share > 0.5 or not _reads_others(model) else None


def _reads_others(model):
    builder = getattr(recipes, getattr(model, "recipe", {}).get("builder", ""), None)
    return callable(builder) and "weights" in inspect.signature(builder).parameters


def _match(model, path, naming, shapes, keep):
    """Return `{name: variable}` to be read and the paths of the variables that stay; refuse whatever else there is."""
    problems, kept = {}, set()
    if len(naming) != len(model.weights):
        rule = f"the names of the model {model.name!r} do not tell its variables apart, or a layer of it saves other things"
        raise UnsafeFileError(path, None, rule, "Give every layer its own name, and use a .weights.h5 file.")

    def layer_to_keep(variable_path):
        return next((part for part in variable_path.split("/") if part in keep), None)

    for name, variable in naming.items():
        problem = _problem(variable, shapes.get(name))
        if problem and layer_to_keep(variable.path):
            kept.add(layer_to_keep(variable.path))
        elif problem:
            kind, text = problem
            problems.setdefault(kind, []).append(text.format(name=name, path=variable.path))
    left = {name: v for name, v in naming.items() if layer_to_keep(v.path) in kept}
    extra = sorted(shapes.keys() - naming.keys())
    if extra:
        problems["arrays without a variable"] = [ascii(name[:80]) for name in extra]
    if problems:
        found = "; ".join(f"{len(texts)} {kind}: {_some(texts)}" for kind, texts in problems.items())
        raise UnsafeFileError(path, None, f"it does not fit the model {model.name!r}. {found}", VARIANT)
    fitting = {name: v for name, v in naming.items() if name not in left}
    cast = [
        f"{name} is {np.dtype(shapes[name][1]).name}" for name, v in fitting.items() if shapes[name][1] != plain_shape(v)[1]
    ]
    if cast:
        warnings.warn(f"weights file {str(path)!r}: {len(cast)} arrays become the model's types: {_some(cast)}")
    return fitting, [v.path for v in left.values()]


def _problem(variable, found):
    """Return what is wrong with the array for a variable, as a kind and a text, or `None`."""
    if found is None:
        return "variables without an array", "{path}"
    shape, dtype = plain_shape(variable)
    given = np.dtype(found[1])
    if tuple(found[0]) != shape:
        return "other shapes", f"{{path}} is {shape}, {{name}} {tuple(found[0])}"
    floats = given.kind == "f" or given.name == "bfloat16"
    wanted = "float" in dtype
    if floats != wanted or (not wanted and given.kind not in "iub"):
        return "other types", f"{{path}} is {dtype}, {{name}} {given.name}"
    return None


def _convert(path, name, variable, array):
    """Return an array in the type of its variable."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    with np.errstate(over="ignore"):
        array = np.asarray(array, dtype="float32" if dtype == "bfloat16" else dtype)
    if not np.all(np.isfinite(array)):
        rule = f"it has values that are not finite in {dtype}"
        raise UnsafeFileError(path, ascii(name[:80]), rule, "Take the weights of an earlier step.")
    return array


def _read_foreign(model, path, keep):
    """Return pairs of variable and array, and the paths that stay: the model's builder reads the file into another model."""
    recipe = model.recipe
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            other = getattr(recipes, recipe["builder"])(**recipe["arguments"], weights=path)
        except UnsafeFileError:
            raise
        except ValueError as error:
            raise UnsafeFileError(path, None, str(error), VARIANT) from error
    left = {path for warning in caught for path in getattr(warning.message, "paths", ())}
    lost = [path for path in sorted(left) if not set(path.split("/")) & set(keep)]
    if lost:
        rule = f"it has no weights that fit {len(lost)} variables: {_some(lost)}"
        raise UnsafeFileError(path, None, rule, "Name their layers in keep= if they may stay as they are.")
    for warning in caught:
        if not isinstance(warning.message, LeftRandom):
            warnings.warn(warning.message)
    values = {variable.path: variable for variable in other.weights}
    for variable in model.weights:
        if variable.path not in values or plain_shape(values[variable.path]) != plain_shape(variable):
            rule = f"the model has been changed since {recipe['builder']} built it: {variable.path} is new or another"
            raise UnsafeFileError(
                path, None, rule, f"Pass weights= to recipes.{recipe['builder']} first, then change the model."
            )
    numbers = {p: keras.ops.convert_to_numpy(v) for p, v in values.items()}
    return [(v, numbers[v.path]) for v in model.weights if v.path not in left], sorted(left)


def _refresh(model):
    """Let layers and the loss see the statistics that came with the weights."""
    from recipes.training.losses import NotAdapted
    from recipes.training.recipe import refresh_loss

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.built:
            layer.finalize_state()
    if isinstance(getattr(model, "loss", None), NotAdapted):
        refresh_loss(model)


def _some(texts):
    rest = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
