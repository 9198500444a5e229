"""Read the weights that Keras wrote into an HDF5 file: `.weights.h5` of Keras 3, and the `.h5` of Keras 2 and legacy saving.

HDF5 can point to other files, show one array under many names and pack a gigabyte into a kilobyte. Keras needs none of
that, so only groups of plain arrays are read, each reached in one way, together no larger than the file.
"""

import collections
import contextlib
import io
import math
import os

import h5py
import numpy as np

from recipes.weights.errors import UnsafeFileError

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_MEMBERS = 20_000  # groups and arrays; EfficientNetV2-L needs 5 thousand
MAX_NAME = 200
BROKEN = "Download or copy the file again."
ADVICE = "Load it with Keras and save it again with model.save_weights."
ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError, MemoryError)
VARIABLES = {  # of a layer whose variables Keras 3 only counts: told by their numbers of dimensions
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
    (2, 1): ("kernel", "bias"),
    (4, 1): ("kernel", "bias"),
    (2,): ("kernel",),
    (4,): ("kernel",),
    (1, 1, 0): ("mean", "variance", "count"),  # Normalization
}


def read_shapes(path):
    """Return `{"layer/variable": (shape, dtype)}` of the weights in a Keras file; no array is read.

    Keras 3 numbers the layers of a class, `conv2d_3/kernel` is in the fourth convolution: see `names_by_class`.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with _open(path) as (arrays, refuse):
        return {name: (array.shape, array.dtype) for name, array in _name_arrays(arrays, refuse).items()}


def read(path):
    """Return `{"layer/variable": array}` of the weights in a Keras file.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with _open(path) as (arrays, refuse):
        return {name: np.asarray(array[()]) for name, array in _name_arrays(arrays, refuse).items()}


@contextlib.contextmanager
def open_members(path, data=None):
    """Give `{"layers/dense/vars/0": h5py.Dataset}` of every array in a Keras file, under its own name, each fit to be read.

    Args:
        path: The file.
        data: Its bytes, if it is part of another file.
    """
    with _open(path, data, whole=True) as (arrays, _):
        yield {"/".join(name): array for name, array in arrays.items()}


def is_keras(names):
    """Say whether `names` of tensors are those of a Keras file: torch's have dots, not slashes."""
    return all("/" in name for name in names)


def names_by_class(model):
    """Return `{variable path: ("conv2d_3/kernel", None)}`, as `assign` takes it: layers counted in the order of `model`."""
    counted, names = collections.defaultdict(dict), {}
    for path in (variable.path for variable in model.weights):
        layer, name = path.rsplit("/", 1)
        if name in ("kernel", "bias"):
            kind = "dense" if layer == "logits" else "depthwise_conv2d" if "depthwise" in layer else "conv2d"
        elif name in VARIABLES[1, 1, 1, 1]:
            kind = "batch_normalization"
        else:  # the scale of a regression: the file has no such thing
            continue
        index = counted[kind].setdefault(layer, len(counted[kind]))
        names[path] = (f"{kind}_{index}/{name}" if index else f"{kind}/{name}", None)
    return names


@contextlib.contextmanager
def _open(path, data=None, whole=False):
    """Give `{path: h5py.Dataset}`, each fit to be read, and a function that refuses the file."""

    def refuse(rule, member=None, remedy=ADVICE):
        raise UnsafeFileError(path, member and ascii(member[:MAX_NAME]), rule, remedy)

    try:
        with h5py.File(path if data is None else io.BytesIO(data), "r") as file:
            if file.userblock_size:
                refuse("foreign bytes stand before its start")
            yield _walk(file, os.path.getsize(path) if data is None else len(data), refuse, whole), refuse
    except UnsafeFileError:
        raise
    except ERRORS as error:
        raise UnsafeFileError(path, None, f"the HDF5 file is damaged ({str(error)[:120]})", BROKEN) from None


def _walk(file, size, refuse, whole=False):
    """Return `{path: array}` of all weights, paths as tuples of names below the group that holds the layers.

    `whole` gives everything that is in the file, under its whole path.
    """
    root = next((name for name in ("layers", "model_weights") if name in _links(file, refuse) and not whole), None)
    skipped = () if whole else ("optimizer_weights", "seed_generator")
    stack = [((root,), file[root]) if root else ((), file)]
    arrays, seen, total = {}, set(), 0
    while stack:
        path, member = stack.pop()
        shown = "/".join(path)
        if len(seen) >= MAX_MEMBERS:
            refuse(f"it has more than {MAX_MEMBERS} members")
        address = h5py.h5o.get_info(member.id).addr
        if address in seen:
            refuse("the same thing is there under two names", shown)
        seen.add(address)
        if isinstance(member, h5py.Group):
            names = _links(member, refuse)
            stack += [((*path, name), member[name]) for name in names if name not in skipped]
        elif isinstance(member, h5py.Dataset):
            total += _check(member, shown, refuse)
            arrays[path] = member
        else:
            refuse("it is neither a group nor an array", shown)
        if total > size:
            refuse(f"its arrays need {total} bytes or more, the file has {size}", shown)
    return {path[1:] if root else path: array for path, array in arrays.items()}


def _links(group, refuse):
    """Return the names in `group` once all are known to mean something in this file."""
    if len(group) > MAX_MEMBERS:
        refuse(f"it has more than {MAX_MEMBERS} members", group.name)
    names = list(group)
    for name in names:
        if not name or len(name) > MAX_NAME or name in (".", "..") or "/" in name or "\0" in name:
            refuse("a member has a malformed name", name)
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            refuse("the member is a link to elsewhere", name)
    return names


def _check(array, shown, refuse):
    """Refuse an array that is not plain numbers in this file; return its size in bytes."""
    kind, layout = array.id.get_type(), array.id.get_create_plist()
    if kind.get_class() not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) or kind.get_size() > 8:
        refuse("its elements are not plain numbers", shown)
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        refuse("its numbers are in another file", shown)
    if layout.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or layout.get_nfilters():
        refuse("it is compressed or in chunks, as Keras never writes it", shown)
    if array.shape is None:
        refuse("it has no shape", shown)
    needed = math.prod(array.shape) * kind.get_size()
    if needed != array.id.get_storage_size() or math.prod(max(n, 1) for n in array.shape) >= 2**40:
        refuse(f"its shape {array.shape} needs {needed} bytes, {array.id.get_storage_size()} are there", shown)
    return needed


def _name_arrays(arrays, refuse):
    """Return `{"layer/variable": array}`."""
    named, counted = [], collections.defaultdict(dict)
    for path, array in arrays.items():
        if "vars" in path[1:-1] and path[-1].isdecimal():  # Keras 3: layers/CLASS_COUNTER/vars/INDEX
            counted[path[: path.index("vars", 1)]][int(path[-1])] = array
        elif len(path) > 1:  # LAYER/.../VARIABLE:0
            variable = path[-1].removesuffix(":0")
            named.append((path[0], "kernel" if variable == "depthwise_kernel" else variable, array))
        else:
            refuse("it is not in a layer, so Keras did not write it", path[0])
    for path, variables in counted.items():
        ordered = [variables[i] for i in sorted(variables)]
        names = VARIABLES.get(tuple(len(array.shape) for array in ordered), map(str, range(len(ordered))))
        named += [("/".join(path), name, array) for name, array in zip(names, ordered, strict=True)]
    result = {f"{layer}/{variable}": array for layer, variable, array in named}
    if not result:
        refuse("it holds no weights of layers, so Keras did not write it")
    if len(result) != len(arrays):
        refuse("two arrays have the same name")
    return result
