"""Read a `.safetensors` file: a JSON header that places each tensor, then the numbers, without gaps.

The header is checked in full before any tensor is read: the format leaves that to the reader.
"""

import io
import math
import struct

import numpy as np

from recipes.weights.errors import UnsafeFileError
from recipes.weights.json_text import parse_object

MAX_HEADER = 4 << 20  # bytes; 30 thousand tensors
MAX_DIMENSIONS = 16
BROKEN = "Download or copy the file again."
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # widened to float32 when read
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}


def read_shapes(path):
    """Return `{name: (shape, dtype)}` of the tensors of a safetensors file; no tensor is read.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with open(path, "rb") as file:
        entries, _ = _read_header(path, file)
        dtypes = {**DTYPES, "BF16": "<f4"}
        return {name: (shape, np.dtype(dtypes[dtype])) for name, dtype, shape, _ in entries}


def read(path):
    """Return `{name: array}` of the tensors of a safetensors file; bfloat16 comes as float32.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    tensors = {}
    with open(path, "rb") as file:
        entries, start = _read_header(path, file)
        for name, dtype, shape, (begin, end) in entries:
            file.seek(start + begin)
            array = np.frombuffer(file.read(end - begin), DTYPES[dtype])
            if dtype == "BF16":  # the upper half of a float32
                array = (array.astype("<u4") << 16).view("<f4")
            tensors[name] = array.reshape(shape)
    return tensors


def _read_header(path, file):
    """Return `[(name, dtype, shape, (begin, end))]`, sorted by place, and the position of the first number."""

    def refuse(rule, member=None, remedy=BROKEN):
        raise UnsafeFileError(path, member, rule, remedy) from None

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        refuse(f"the header's length, {length}, is not between 2 and {MAX_HEADER} or beyond the file's {size} bytes")
    header = parse_object(file.read(length), refuse, limit=MAX_HEADER, member="the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refuse("the metadata is not a map of strings", "__metadata__")

    entries = []
    for name, entry in header.items():
        shown = ascii(name[:80])
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            refuse("the entry does not consist of dtype, shape and data_offsets", shown)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            refuse(f"the dtype is not one of {', '.join(DTYPES)}", shown)
        if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS or not _are_sizes(offsets) or len(offsets) != 2:
            refuse("the shape or the offsets are not lists of non-negative 63-bit integers", shown)
        if offsets[1] - offsets[0] != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
            refuse(f"the shape {shape} does not need the {offsets[1] - offsets[0]} bytes that the offsets span", shown)
        if math.prod(max(n, 1) for n in shape) >= 2**40:
            refuse("the shape is out of all proportion", shown)
        entries.append((name, dtype, tuple(shape), tuple(offsets)))
    entries.sort(key=lambda entry: entry[3])
    end = 0
    for name, _, _, offsets in entries:
        if offsets[0] != end:
            refuse("the tensor overlaps another one or leaves a hole before it", ascii(name[:80]))
        end = offsets[1]
    if 8 + length + end != size:
        refuse(f"the tensors need {8 + length + end} bytes, the file has {size}")
    return entries, 8 + length


def _are_sizes(value):
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
