"""Read the weights of an `.onnx` file: the initializers of its graph. The graph is passed over, nothing in it is run.

ONNX is Protocol Buffers: fields, each a number, a type and, for texts, messages and packed numbers, a length. Only the
fields that lead to the weights are read here, so neither `onnx` nor `protobuf` is needed. Tensors keep the names that the
exporter gave them: those of torch, unless it folded a BatchNorm into a convolution or turned a matrix round.
"""

import contextlib
import math
import os

import numpy as np

from recipes.weights.errors import UnsafeFileError

MAX_FIELDS = 150_000  # of all messages that are read, six a tensor and one a node; a third of a second
MAX_DIMENSIONS = 16
MAX_NAME = 400
BROKEN = "Download or copy the file again."
DTYPES = {1: "<f4", 10: "<f2", 11: "<f8", 16: "<u2"}  # the last is bfloat16, widened to float32 when read
LISTS = {4: 1, 10: 11}  # field of packed numbers -> the type that it may hold
CONSTANTS = ("onnx::", "/", "val_", "_val_")  # what exporters call numbers that are no weights
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
MODEL_FIELDS = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72}  # which may follow the version


def is_onnx(start):
    """Whether a file whose first bytes are `start` can be ONNX: its version, then another field of a model."""
    return len(start) > 2 and start[0] == 0x08 and 0 < start[1] < 64 and start[2] in MODEL_FIELDS


def read_shapes(path):
    """Return `{name: (shape, dtype)}` of the floating point initializers; no tensor is read.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with _open(path) as (_, tensors):
        return {name: (shape, np.dtype("<f4" if kind == 16 else DTYPES[kind])) for name, (shape, kind, _) in tensors.items()}


def read(path):
    """Return `{name: array}` of the floating point initializers; bfloat16 comes as float32.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    arrays = {}
    with _open(path) as (file, tensors):
        for name, (shape, kind, (start, length)) in tensors.items():
            file.seek(start)
            array = np.frombuffer(file.read(length), DTYPES[kind])
            if kind == 16:  # the upper half of a float32
                array = (array.astype("<u4") << 16).view("<f4")
            arrays[name] = array.reshape(shape)
    return arrays


@contextlib.contextmanager
def _open(path):
    """Give the file and `{name: (shape, type, (start, length))}` of its initializers."""

    def refuse(rule, member=None, remedy=BROKEN):
        raise UnsafeFileError(path, member, rule, remedy) from None

    with open(path, "rb") as file:
        reader = _Reader(file, os.path.getsize(path), refuse)
        graphs = [value for number, value in reader.fields(0, reader.size) if number == 7]
        if len(graphs) != 1 or isinstance(graphs[0], int):
            refuse(f"it holds {len(graphs)} graphs, a model has one")
        tensors = {}
        for number, value in reader.fields(*graphs[0]):
            if number == 15:
                refuse("it holds sparse tensors, which are not read")
            if number == 5 and not isinstance(value, int):
                found = _describe(reader, value)
                if found is None:
                    continue
                name, *tensor = found
                if name in tensors:
                    refuse("two tensors have the same name", ascii(name))
                tensors[name] = tuple(tensor)
        if not tensors:
            refuse("its graph holds no weights", remedy="Export it with its parameters.")
        yield file, tensors


def _describe(reader, place):
    """Return name, shape, type and place of the numbers of a TensorProto; `None` if it is a constant and no weight."""
    dims, kind, name, data = [], None, "", {}
    refuse = reader.refuse
    for number, value in reader.fields(*place):
        if number == 1:
            dims += [value] if isinstance(value, int) else reader.varints(*value)
            if len(dims) > MAX_DIMENSIONS:
                refuse(f"a tensor has more than {MAX_DIMENSIONS} dimensions")
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and not isinstance(value, int):
            name = reader.text(*value)
        elif number in (3, 13, 14) and value != 0:  # a segment; another file, or the word that there is one
            refuse("its numbers are in another file or in parts", ascii(name) if name else None, "Export it in one file.")
        elif number in (4, 9, 10):
            if number in data or isinstance(value, int):
                refuse("the tensor's numbers are there twice or are not packed", ascii(name) if name else None)
            data[number] = value
    shown = ascii(name[:80])
    if kind not in DTYPES:  # whole numbers and truths belong to the graph: shapes, axes, masks
        return None
    if not name:
        refuse("a tensor has no name")
    if not dims and name.startswith(CONSTANTS):
        return None
    if len(data) != 1:
        refuse("the tensor does not have its numbers in one place", shown)
    (field, where) = next(iter(data.items()))
    if field != 9 and LISTS[field] != kind:
        refuse("the tensor's numbers are of another type than it says", shown)
    if any(n >= 2**63 for n in dims) or math.prod(max(n, 1) for n in dims) >= 2**40:
        refuse("the shape is negative or out of all proportion", shown)
    if math.prod(dims) * np.dtype(DTYPES[kind]).itemsize != where[1]:
        refuse(f"the shape {tuple(dims)} does not need the {where[1]} bytes that are there", shown)
    return name, tuple(dims), kind, where


class _Reader:
    """Reads the fields of messages from a file, never more than there are, and a bounded number of them."""

    def __init__(self, file, size, refuse):
        self.file, self.size, self.refuse, self.count = file, size, refuse, 0

    def fields(self, start, length):
        """Yield `(number, value)`: an int, or `(start, length)` of what has a length. Fixed numbers are passed over."""
        position, end = start, start + length
        while position < end:
            self.count += 1
            if self.count > MAX_FIELDS:
                self.refuse(f"it has more than {MAX_FIELDS} fields")
            self.file.seek(position)
            number, wire = divmod(self._varint(end), 8)
            if wire == VARINT:
                value = self._varint(end)
                position = self.file.tell()
                yield number, value
            elif wire == BYTES:
                size = self._varint(end)
                begin = self.file.tell()
                position = begin + size
                if position > end:
                    self.refuse(f"it is truncated: a field ends at byte {position}, what it is part of at {end}")
                yield number, (begin, size)
            elif wire in (EIGHT, FOUR):
                position = self.file.tell() + (8 if wire == EIGHT else 4)
            else:
                self.refuse("it has a field of a type that ONNX does not use")
        if position != end:
            self.refuse("a field reaches beyond the message that it is part of")

    def varints(self, start, length):
        """Return the packed numbers of a short list."""
        if length > 10 * MAX_DIMENSIONS:
            self.refuse(f"a tensor has more than {MAX_DIMENSIONS} dimensions")
        self.file.seek(start)
        found = []
        while self.file.tell() < start + length:
            found.append(self._varint(start + length))
        return found

    def text(self, start, length):
        """Return a short text."""
        self.file.seek(start)
        try:
            text = self.file.read(min(length, MAX_NAME + 1)).decode("utf-8")
        except UnicodeDecodeError:
            self.refuse("a tensor's name is not UTF-8")
        if length > MAX_NAME or "\0" in text:
            self.refuse("a tensor's name is malformed")
        return text

    def _varint(self, end):
        """Return the next number: seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self.file.read(1)
            if not byte or self.file.tell() > end or shift > 63:
                self.refuse("it is truncated, or a number is malformed")
            value |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return value
