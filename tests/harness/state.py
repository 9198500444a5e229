"""What the checks of models compare: weights by path, seeds, and what lies outside a model."""

import contextlib
import copy
import json
import os
import warnings

import keras
import numpy as np


def numpy_of(value):
    """Return a copy of a tensor or a variable as an array."""
    return np.array(keras.ops.convert_to_numpy(value))


def plain(value):
    """Return `value` as JSON has it: lists for tuples."""
    return json.loads(json.dumps(value))


def rows_of(x, index):
    """Return the rows `index` of an array, or of each array of a dict."""
    return keras.tree.map_structure(lambda a: a[index], x)


def seeds_of(model):
    """Return the variables that hold the state of seeds."""
    return [v for v in model.variables if "seed_generator" in v.path]


def paths_of(model):
    """Return the paths of the weights."""
    return [v.path for v in model.weights]


def values_of(model):
    """Return a dict from the path of each weight to its value."""
    return {v.path: numpy_of(v) for v in model.weights}


def copy_seeds(source, target):
    """Give `target` the state of seeds of `source`: Keras does not write it, and JAX donates the buffers."""
    for seed, other in zip(seeds_of(target), seeds_of(source), strict=True):
        seed.assign(numpy_of(other))


def assert_same(found, expected, when):
    """Raise unless two models have weights that are equal bit for bit, in their order."""
    for (path, value), other in zip(values_of(expected).items(), values_of(found).values(), strict=True):
        assert np.array_equal(value, other), f"{when}: {path} differs"


def assert_close(found, expected, tolerance, message):
    """Raise unless two arrays differ by at most `tolerance`, of the largest number or of 1."""
    error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    assert error <= tolerance, f"{message}: {error:.1e}"


@contextlib.contextmanager
def dtype_policy(name):
    """Context in which `name` is the dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def outside_of(case):
    """Return what neither building nor training may change."""
    return {
        "the arguments": copy.deepcopy(case.arguments),
        "x": copy.deepcopy(case.x),
        "y": copy.deepcopy(case.y),
        "the dtype policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "traceback filtering": keras.config.is_traceback_filtering_enabled(),
        "interactive logging": keras.config.is_interactive_logging_enabled(),
        "numpy's random state": np.random.get_state(),
        "the environment": dict(os.environ),
        "warning filters": list(warnings.filters),
        "the working directory": os.getcwd(),
    }


def record_changes(before, after, changed):
    """Append to `changed` the names of what differs between two results of `outside_of`."""
    for name, value in before.items():
        if not is_same(value, after[name]) and name not in changed:
            changed.append(name)


def is_same(a, b):
    """Return whether two structures of arrays and plain values are equal."""
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(is_same(i, j) for i, j in zip(a, b, strict=True))
    return a == b
