"""What `recipes.fit` looks at before the first step: what Keras lets through in silence or reports as a graph error."""

import warnings

import keras
import numpy as np

from recipes.data.splitting import LazyRows
from recipes.layers import CategoryEmbedding, PositionEmbedding
from recipes.training.check_targets import check_targets
from recipes.training.recipe import get_recipe


def check_arrays(model, x, y, *, name="data", classes=None):
    """Raise `ValueError` unless arrays `x` and targets `y` fit `model`; return them as numpy arrays.

    Args:
        model: Keras model with named inputs.
        x: Array, or dict of arrays by input name.
        y: Array of targets.
        name: What to call the pair in messages, such as `"validation"`.
        classes: Number of classes if integer `y` are class ids, else `None`.

    Returns:
        `(x, y)` as numpy arrays; the caller's objects are not changed.
    """
    loose = get_recipe(model).get("allow_nonfinite", False)
    if not getattr(model, "inputs", None):  # of a class of the user's own: its shapes are not known
        return check_leaves(x, f"{name} x", loose), check_leaves(y, f"{name} y")
    if isinstance(x, dict):
        wanted = {tensor.name: tensor for tensor in model.inputs}
        if set(x) != set(wanted):
            raise ValueError(f"{name}: x must be a dict with the keys {sorted(wanted)}. Received: {sorted(x)}")
        x = {key: _check_input(x[key], wanted[key].shape, f"{name} x[{key!r}]", loose) for key in x}
        length = len(next(iter(x.values())))
    elif len(model.inputs) != 1:
        raise ValueError(
            f"{name}: x must be a dict with the keys {sorted(t.name for t in model.inputs)}. Received: one array"
        )
    else:
        x = _check_input(x, model.inputs[0].shape, f"{name} x", loose)
        length = len(x)
    for tensor in model.inputs:
        if tuple(tensor.shape) == (None, None) and "int" in tensor.dtype:
            _check_length(x[tensor.name] if isinstance(x, dict) else x, longest(model), f"{name} x")
    for layer in model.layers:
        if isinstance(layer, CategoryEmbedding):
            _check_categories(x if not isinstance(x, dict) else x["categories"], layer.sizes, f"{name} x['categories']")
        elif isinstance(layer, keras.layers.Embedding):
            read = {id(tensor) for node in layer._inbound_nodes for tensor in node.input_tensors}  # source and target, maybe
            for tensor in model.inputs:
                if id(tensor) in read:
                    check_tokens(x[tensor.name] if isinstance(x, dict) else x, layer.input_dim, f"{name} x[{tensor.name!r}]")
    if y is None:
        return x, None
    y = _array(y, f"{name} y")
    if len(y) != length:
        raise ValueError(f"{name}: x has {length} examples and y has {len(y)}; they must be equally long.")
    if y.dtype.kind in "US":
        raise ValueError(
            f"{name} y must be numbers: class ids 0, 1, ... Received strings such as "
            f"{', '.join(map(repr, np.unique(y)[:5].tolist()))}; encode them with "
            "`classes, y = numpy.unique(y, return_inverse=True)`."
        )
    _check_finite(y, f"{name} y")
    check_targets(model, y, classes, f"{name} y")
    return x, y


def check_leaves(value, name, loose=False):
    """Raise `ValueError` unless the arrays in `value`, a nested structure or `None`, are numbers; return them so.

    They must be finite, unless `loose`.
    """
    if value is None:
        return None
    leaves = keras.tree.map_structure(lambda leaf: _array(leaf, name), value)
    for leaf in [] if loose else keras.tree.flatten(leaves):
        _check_finite(leaf, name)
    return leaves


def _array(value, name):
    if isinstance(value, LazyRows) and len(value):
        return value  # images in files: nothing is read before the first step
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, and the mask would be ignored. Fill it first: `array.filled(value)`.")
    if hasattr(value, "columns") and hasattr(value, "dtypes"):
        _check_columns(value, name)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array. Received rows of shapes {_shapes(value)}") from error
    if array.dtype == object:
        raise ValueError(
            f"{name} must be numbers in a rectangular array. Received: dtype object, rows of shapes {_shapes(array)}"
        )
    if array.dtype.kind == "c":
        raise ValueError(f"{name} must be real numbers. Received: dtype {array.dtype}; the imaginary part would be dropped.")
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"{name} holds 0 examples. Received: shape {array.shape}")
    return array


def _check_columns(frame, name):
    """Raise `ValueError` unless the columns of a data frame are numbers under names of their own."""
    names = list(frame.columns)
    twice = sorted({str(column) for column in names if names.count(column) > 1})
    unnamed = [column for column in names if column != column or column is None]
    texts = [
        str(column) for column, kind in zip(names, frame.dtypes, strict=True) if getattr(kind, "kind", "O") not in "biuf"
    ]
    if twice or unnamed:
        raise ValueError(f"{name} must have a name of its own for each column. Received: {twice or unnamed}; rename them.")
    if texts:
        raise ValueError(
            f"{name} has columns that are not numbers: {texts}. Write the table to a .csv and load it with "
            "recipes.data.load, which encodes categories, or leave them out."
        )


def _shapes(rows):
    """Return the first few different shapes of `rows`."""
    shapes = []
    for row in rows:
        try:
            shape = np.shape(row)
        except ValueError:
            shape = (len(row), "...")
        if shape not in shapes:
            shapes.append(shape)
    return ", ".join(map(str, shapes[:4]))


def _check_input(value, expected, name, loose=False):
    if (
        isinstance(value, (list, tuple, np.ndarray))
        and getattr(value, "ndim", 1)
        and len(value)
        and isinstance(value[0], str)
    ):
        raise ValueError(
            f"{name} holds texts, and the model takes numbers. Make token ids of them: `recipes.data.Tokenizer.load(folder)"
            f".encode(texts)`, or `Tokenizer.train(texts)` for a tokenizer of your own. Received: {value[0][:40]!r}"
        )
    array = _array(value, name)
    if array.dtype.kind in "US":
        raise ValueError(f"{name} must be numbers. Received: dtype {array.dtype}")
    shape, expected = array.shape[1:], tuple(expected)[1:]
    fits = len(shape) == len(expected) and all(e is None or e == s for s, e in zip(shape, expected, strict=True))
    if not fits:
        hint = ""
        if len(expected) == 3 and len(shape) == 3 and shape == (expected[2], *expected[:2]):
            hint = " These images look channels first: transpose them with x.transpose(0, 2, 3, 1)."
        elif len(expected) == 3 and len(shape) == 2 and shape == expected[:2] and expected[2] == 1:
            hint = " The channel axis is missing: pass x[..., None]."
        elif len(expected) == 3 and len(shape) == 3 and shape[:2] == expected[:2] and shape[2] == 1:
            hint = " Grey images for a colour model: repeat the channel with numpy.repeat(x, 3, axis=-1)."
        elif len(expected) == 3 and len(shape) == 3 and shape[2] == expected[2]:
            hint = f" Resize the images to {expected[0]}x{expected[1]}, or build the model for their size."
        elif len(expected) == 1 and len(shape) == 2 and 1 in shape:
            hint = f" Reshape them with {'x[:, 0, :]' if shape[0] == 1 else 'x[:, :, 0]'}."
        elif len(expected) == 1 and not shape:
            hint = " Reshape one example with x[None], one column with x[:, None]."
        raise ValueError(
            f"{name} must have shape (examples, {', '.join(map(str, expected))}). Received: {array.shape}.{hint}"
        )
    if not loose:
        _check_finite(
            array, name, ". Remove or replace such values, or train with allow_nonfinite=True if the model deals with them"
        )
    return array


def _check_finite(array, name, remedy=""):
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        narrow = array.astype("float32") if array.dtype.itemsize > 4 else array
    if np.isfinite(narrow.sum(dtype="float64")):  # one pass; a finite sum has finite terms
        return
    bad = np.argwhere(~np.isfinite(narrow))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        value = array[where]
        why = "overflows float32" if np.isfinite(value) else "is not finite"
        raise ValueError(f"{name} must be finite. {name}[{', '.join(map(str, where))}] = {value} {why}{remedy}.")


def _check_categories(ids, sizes, name):
    if ids.dtype.kind not in "iub" and (ids != np.round(ids)).any():
        raise ValueError(f"{name} must be integers. Received: dtype {ids.dtype}")
    for column, size in enumerate(sizes):
        low, high = int(ids[:, column].min()), int(ids[:, column].max())
        if low < 0 or high >= size:
            raise ValueError(
                f"{name} column {column} spans {low}..{high}, but the model was built for {size} categories, 0..{size - 1}."
            )


def check_tokens(ids, size, name, exact=False):
    """Raise `ValueError` unless `ids` are token ids below `size`; `exact` refuses whole numbers stored as floats too."""
    if ids.dtype.kind not in "iub" and (exact or (ids != np.round(ids)).any()):
        raise ValueError(f"{name} must be token ids, integers. Received: dtype {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name} spans {low}..{high}, but the model was built for {size} token ids, 0..{size - 1}.")


def _check_length(ids, most, name):
    length = ids.shape[1]
    if length == 0:
        raise ValueError(f"{name} must have at least one token a row. Received: shape {ids.shape}")
    if most is not None and length > most:
        raise ValueError(f"{name}: sequence length {length} exceeds max_length {most}; truncate or rebuild")


def longest(model):
    """Return the largest number of tokens that `model` reads, or `None` if its layers and its recipe know no limit."""
    tables = [layer.embedding.shape[0] for layer in model.layers if isinstance(layer, PositionEmbedding)]
    said = get_recipe(model).get("arguments", {}).get("max_length")
    return min([*tables, *([] if said is None else [said])], default=None)


def warn_range(model, x):
    """Warn if images for a model of ours, which scales 0..255 by itself, look as if they were scaled already."""
    if "builder" not in get_recipe(model):
        return
    for tensor in model.inputs:
        images = x.get(tensor.name) if isinstance(x, dict) else x
        if len(tensor.shape) == 4 and getattr(images, "dtype", None) is not None and images.dtype.kind == "f":
            if not isinstance(images, LazyRows) and 0 < images.max() <= 1:
                warnings.warn(
                    f"The images look scaled, their largest value is {float(images.max()):.3g}, and the model takes raw "
                    "pixels, 0..255, which it scales itself. Multiply them by 255, or leave out the scaling.",
                    stacklevel=4,
                )
