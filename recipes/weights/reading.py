"""Read a file of weights, whatever its name says it is, or the folder of a model of the Hugging Face hub."""

import os
import stat

from recipes.weights import hub, keras_file, onnx_file, safetensors_file, shards, torch_file
from recipes.weights.errors import UnsafeFileError
from recipes.weights.json_text import parse_object
from recipes.weights.places import check_inside

IN_FOLDER = hub.WEIGHTS  # the first that is there is read
MAX_CONFIG = 1 << 20  # bytes of config.json; that of a ViT with 1000 named classes has 70 thousand


def read_state_dict(path):
    """Read the tensors of a weights file. Its type is told from its first bytes, not from its name.

    It may be a file of torch (`.pth`: the zip archive since torch 1.6, or the layout before), safetensors, also split, ONNX
    or Keras (`.weights.h5` and the older `.h5`). Nothing in the file is executed, and what it can make us allocate is
    bounded by its size.

    Args:
        path: The file, the `.index.json` of a split one, or a folder with `model.safetensors`, its index or
            `pytorch_model.bin`, or `"owner/name@<40 hexadecimal digits>"` of the Hugging Face hub. A file that holds
            `{"state_dict": tensors, ...}` will do.

    Returns:
        Dict of name to array, in the shapes of the library that wrote it. bfloat16 comes as float32. The prefixes
        `module.` and `_orig_mod.` of wrapped models are removed with a warning. Those of Keras are `"layer/variable"`.

    Raises:
        UnsafeFileError: A `ValueError` that says what is wrong with the file and what to do.
    """
    path = find_file(path)
    return _reader(path).read(path)


def read_shapes(path):
    """Read what `read_state_dict` would return as `{name: (shape, dtype)}`, without reading a tensor."""
    path = find_file(path)
    return _reader(path).read_shapes(path)


def find_file(path):
    """Return the weights file that `path` means: itself, in a folder the one that the hub puts there, or a download."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"weights must be the path of a file or folder, or a name of the hub. Received: {path!r}")
    if hub.is_name(path):
        return hub.download(path)
    for name in IN_FOLDER if os.path.isdir(path) else ():
        if os.path.lexists(os.path.join(path, name)):
            check_inside(os.path.join(path, name), path)
            return os.path.join(path, name)
    return path


def read_config(path):
    """Return what `config.json` in the folder `path`, or beside the file `path`, says; `{}` without one.

    `path` may be a name of the hub, too.

    Raises:
        UnsafeFileError: If it is not a JSON object of sensible size.
    """
    path = path if os.path.isdir(path) else find_file(path)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    config = os.path.join(folder, "config.json")
    if not os.path.isfile(config):
        return {}
    check_inside(config, folder or ".")

    def refuse(rule, member, remedy):
        raise UnsafeFileError(config, member, rule, remedy) from None

    with open(config, "rb") as file:
        return parse_object(file.read(MAX_CONFIG + 1), refuse, limit=MAX_CONFIG)


def _reader(path):
    """Return the module that reads `path`."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        raise UnsafeFileError(path, None, "there is no such file", "Check the path.") from None
    if not stat.S_ISREG(mode):
        rule = "it is not a regular file, nor a folder with one of " + ", ".join(IN_FOLDER)
        raise UnsafeFileError(path, None, rule, "Pass the path of the weights file itself.")
    with open(path, "rb") as file:
        start = file.read(9)
    if start.startswith(keras_file.MAGIC):
        return keras_file
    a_length = start[3:8] == bytes(5)  # of the header of a safetensors file, which is below 16 MiB
    if start[:1] == b"{" and not a_length:
        return shards
    if onnx_file.is_onnx(start) and not a_length:
        return onnx_file
    if start[8:] == b"{":  # behind the header's length, JSON
        return safetensors_file
    return torch_file
