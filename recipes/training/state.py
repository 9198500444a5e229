"""All state that training goes on from, as named arrays and plain JSON: model, optimizer, callbacks, random numbers."""

import random
import re

import keras
import numpy as np


def model_variables(model, metrics=False):
    """Return `{name: variable}` of all that training changes: weights, seeds, the optimizer; `metrics` on demand.

    Names hold the variable's place and path. The number in the name of a seed's state depends on what was built before.
    """
    groups = {"model": model.variables, "optimizer": model.optimizer.variables if model.optimizer else []}
    if metrics:
        groups["metrics"] = model.metrics_variables
    return {
        f"{group}/{i:04d}/{re.sub(r'seed_generator_?[0-9]*', 'seed_generator', v.path)}": v
        for group, variables in groups.items()
        for i, v in enumerate(variables)
    }


def read_variables(variables):
    """Return `{name: array}`, copies."""
    return {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in variables.items()}


def assign_variables(variables, arrays):
    """Give each variable its array.

    Raises:
        ValueError: If there is not exactly one array of the right shape and type for each; then nothing is changed.
    """
    missing, unknown = [n for n in variables if n not in arrays], [n for n in arrays if n not in variables]
    if missing or unknown:
        raise ValueError(
            f"model must have the variables of the checkpoint. Only the model has {_some(missing)}; only the checkpoint "
            f"has {_some(unknown)}. Build the model as it was, or choose another directory."
        )
    for name, v in variables.items():
        if arrays[name].shape != tuple(v.shape) or arrays[name].dtype.name != keras.backend.standardize_dtype(v.dtype):
            raise ValueError(
                f"model must have the variables of the checkpoint: {name.split('/', 2)[2]} is {tuple(v.shape)} {v.dtype} in "
                f"the model and {arrays[name].shape} {arrays[name].dtype} in the checkpoint. Build the model as it was, or "
                "choose another directory."
            )
    for name, v in variables.items():
        v.assign(arrays[name])


def not_finite(arrays):
    """Return the names of the arrays of floats that hold NaN or an infinity."""
    return [
        name
        for name, a in arrays.items()
        if (a.dtype.kind == "f" or a.dtype.name == "bfloat16") and not np.isfinite(a.astype("float32", copy=False)).all()
    ]


def callback_state(callback, before=None):
    """Return what `callback` has to remember: its own `get_state()`, or else its attributes that are plain data.

    Of these only such as differ from those in `before`, if given: what training has not changed, the caller may.
    """
    if hasattr(callback, "get_state"):
        return callback.get_state()
    own = {name: value for name, value in vars(callback).items() if name not in ("_model", "params") and _is_plain(value)}
    return own if before is None else {k: v for k, v in own.items() if k not in before or not _equal(v, before[k])}


def restore_callback(callback, state):
    """Give `callback` what `callback_state` returned."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def random_state():
    """Return the state of Python's and numpy's global generators, which callbacks and augmentation may draw from."""
    return {"python": random.getstate(), "numpy": np.random.get_state()}


def restore_random(state):
    """Give both generators what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])


def pack(value, arrays, name):
    """Return `value` as JSON, its arrays put into the dict `arrays` under names that begin with `name`."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": [[key, pack(v, arrays, f"{name}/{key}")] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        if all(type(v) is int for v in value) and len(value) > 8:
            arrays[name] = np.array(value, "int64")
            return {type(value).__name__ + " of ints": name}
        return {type(value).__name__: [pack(v, arrays, f"{name}/{i}") for i, v in enumerate(value)]}
    return value


def unpack(value, arrays):
    """Return what `pack` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: unpack(v, arrays) for key, v in content}
    sequence = {"list": list, "tuple": tuple}[kind.split()[0]]
    return sequence(arrays[content].tolist() if kind.endswith("of ints") else (unpack(v, arrays) for v in content))


def _is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(k, (str, int)) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(_is_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str, np.number, np.bool_)) or _is_array(value)


def _equal(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    return a == b


def _is_array(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _some(names):
    shown = ", ".join(name.split("/", 2)[2] for name in names[:3])
    return f"{shown or 'none'}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
