"""Read a file of weights, whatever its name says it is."""

import os
import stat

from recipes.weights import safetensors_file, torch_file
from recipes.weights.errors import UnsafeFileError


def read_state_dict(path):
    """Read the tensors of a weights file. Its type is told from its first bytes, not from its name.

    It may be a file of torch (`.pth`: the zip archive since torch 1.6, or the layout before) or safetensors. Nothing in
    the file is executed, and what it can make us allocate is bounded by its size.

    Args:
        path: The file. One that holds `{"state_dict": tensors, ...}` will do.

    Returns:
        Dict of name to array, in the shapes of the library that wrote it. bfloat16 comes as float32. The prefixes
        `module.` and `_orig_mod.` of wrapped models are removed with a warning.

    Raises:
        UnsafeFileError: A `ValueError` that says what is wrong with the file and what to do.
    """
    return _reader(path).read(path)


def read_shapes(path):
    """Read what `read_state_dict` would return as `{name: (shape, dtype)}`, without reading a tensor."""
    return _reader(path).read_shapes(path)


def _reader(path):
    """Return the module that reads `path`."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"weights must be the path of a file. Received: {path!r}")
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        raise UnsafeFileError(path, None, "there is no such file", "Check the path.") from None
    if not stat.S_ISREG(mode):
        raise UnsafeFileError(path, None, "it is not a regular file", "Pass the path of the weights file itself.")
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # behind the header's length, JSON
        return safetensors_file
    return torch_file
