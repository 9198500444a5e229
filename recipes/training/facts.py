"""What makes a run the run it is, as plain JSON that can be compared, so that another one is not taken for it."""

import hashlib
import json
import platform

import keras
import numpy as np

import recipes
from recipes.data.batches import Batches
from recipes.data.lengths import GroupedBatches
from recipes.training.recipe import get_recipe

_ROWS = 16 << 20  # bytes hashed at a time


def describe(model, train, validation, settings):
    """Return the facts of a run as nested dicts and lists of JSON.

    Args:
        model: Compiled model.
        train, validation: `Batches`, another data set or `None`.
        settings: Dict of the arguments of `recipes.fit` that decide what is computed.
    """
    recipe = {k: v for k, v in get_recipe(model).items() if k != "class_names"}
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]
    optimizer = model.optimizer
    facts = {
        "backend": keras.backend.backend(),
        "settings": settings,
        "data": _data(train),
        "validation": _data(validation),
        "model": {"recipe": recipe, "layers": [[type(layer).__name__, _config(layer)] for layer in layers]},
        "optimizer": [type(optimizer).__name__, {**_config(optimizer), "name": None}],
        "loss": _named(model.loss),
    }
    return json.loads(json.dumps(facts, default=_named))


def versions():
    """Return the versions that the bits of a result depend on."""
    found = {"recipes": recipes.__version__, "keras": keras.__version__, "numpy": np.__version__}
    if keras.backend.backend() in ("tensorflow", "jax", "torch"):
        import importlib.metadata

        found[keras.backend.backend()] = importlib.metadata.version(keras.backend.backend())
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def difference(before, now, place=""):
    """Return `(place, before, now)` of the first difference between two facts, or `None`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            found = difference(before.get(key), now.get(key), f"{place}.{key}" if place else key)
            if found:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return next((f for f in (difference(*pair, f"{place}[{i}]") for i, pair in pairs) if f), None)
    same = before == now or (before != before and now != now)
    return None if same else (place, before, now)


def hash_batch(batch):
    """Return a hash of one batch: nested arrays or tensors."""
    return _hash([np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in keras.tree.flatten(batch) if leaf is not None])


def first_batch(data):
    """Return the first batch of a data set that can be read again, or `None`."""
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    if hasattr(data, "__iter__") and iter(data) is not data:
        return next(iter(data), None)
    return None


def _data(data):
    if data is None:
        return None
    if isinstance(data, Batches) and type(data).batch in (Batches.batch, GroupedBatches.batch):
        parts = {"x": data.x, "y": data.y, "sample_weight": data.sample_weight}
        leaves = {name: keras.tree.flatten(part) for name, part in parts.items() if part is not None}
        shapes = {name: [f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in part] for name, part in leaves.items()}
        hashes = {name: _hash(part) for name, part in leaves.items()}
        settings = {name: getattr(data, name) for name in ("batch_size", "seed", "shuffle", "repeats", "drop_last")}
        return {"samples": data.num_samples, **settings, "shapes": shapes, "sha256": hashes}
    batch = first_batch(data)
    known = {name: getattr(data, name) for name in ("num_samples", "seed") if isinstance(data, Batches)}
    return {"kind": type(data).__name__, **known, "first batch": None if batch is None else hash_batch(batch)}


def _hash(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        rows = max(1, _ROWS // max(1, array.nbytes // max(1, len(array)))) if array.ndim else 1
        for start in range(0, len(array) if array.ndim else 1, rows):
            part = array[start : start + rows] if array.ndim else array
            part = np.ascontiguousarray(part)
            digest.update(json.dumps(part.tolist()).encode() if part.dtype.kind == "O" else part.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _config(thing):
    try:
        return {k: v for k, v in thing.get_config().items() if k != "name"}
    except NotImplementedError:
        return {}


def _named(value):
    """What JSON has no word for: a number of numpy, an array, or the name of a class or function with its arguments."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value).tolist()
    if hasattr(value, "get_config"):
        return [type(value).__name__, {k: v for k, v in _config(value).items() if k != "name"}]
    return getattr(value, "__qualname__", None) or (value if isinstance(value, str) else type(value).__name__)
