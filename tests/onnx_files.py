"""Write ONNX files field by field, honest and hostile ones, without `onnx`."""

import numpy as np

KINDS = {"float32": 1, "float16": 10, "float64": 11, "int64": 7, "bfloat16": 16}


def varint(value):
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def number(field, value):
    return varint(field * 8) + varint(value)


def part(field, data):
    """A field that has a length: a text, bytes or a message."""
    data = data.encode() if isinstance(data, str) else data
    return varint(field * 8 + 2) + varint(len(data)) + data


def tensor(name, dims, kind, data, field=9, extra=b""):
    return b"".join(number(1, n) for n in dims) + number(2, kind) + part(8, name) + extra + part(field, data)


def model(*tensors, graph=b"", after=b""):
    graph = graph + b"".join(part(5, t) for t in tensors)
    return number(1, 8) + part(2, "us") + part(7, part(2, "graph") + graph) + part(8, number(2, 17)) + after


def described(name, array):
    return tensor(name, array.shape, KINDS[array.dtype.name], np.asarray(array, order="C").tobytes())


def write_onnx(path, tensors):
    """An honest file of `{name: array}`."""
    path.write_bytes(model(*[described(name, np.asarray(array)) for name, array in tensors.items()]))
    return path
