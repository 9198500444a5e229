"""Write torch files byte by byte, honest and hostile ones, without torch."""

import struct
import zipfile

import numpy as np

LEGACY_HEADER = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."  # magic number, version 1001
    b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
)
KINDS = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<u2": "BFloat16Storage",
    "<i8": "LongStorage",
}


def text(value):
    value = value.encode()
    return b"X" + struct.pack("<I", len(value)) + value


def number(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def items(*values):
    """A tuple of pickled values."""
    return b"(" + b"".join(values) + b"t"


def numbers(values):
    return items(*map(number, values))


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def mapping(**values):
    return b"}(" + b"".join(text(k) + v for k, v in values.items()) + b"u"


def storage(key="0", numel=6, kind="FloatStorage", legacy=False):
    """A persistent id."""
    return items(text("storage"), name("torch", kind), text(key), text("cpu"), number(numel), *[b"N"] * legacy) + b"Q"


def tensor(storage, shape=(2, 3), strides=None, offset=0):
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))] if strides is None else strides
    hooks = name("collections", "OrderedDict") + b")R"
    arguments = items(storage, number(offset), numbers(shape), numbers(strides), b"\x89", hooks)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def pickled(body):
    return b"\x80\x02" + body + b"."


def write_zip(path, body, records=None, *, folder="archive", change=lambda info: info, extra=(), compress=False):
    """The layout since torch 1.6. `change` may alter each member's `ZipInfo`, `extra` are more (name, bytes)."""
    records = {"0": np.arange(6, dtype="<f4").tobytes()} if records is None else records
    members = [("data.pkl", pickled(body)), ("byteorder", b"little")]
    members += [(f"data/{key}", data) for key, data in records.items()] + [("version", b"3\n")]
    members = [(f"{folder}/{member}", data) for member, data in members] + list(extra)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for member, data in members:
            info = zipfile.ZipInfo(member)
            info.compress_type = archive.compression
            archive.writestr(change(info), data)
    return path


def write_legacy(path, body, records=None, *, keys=None, header=LEGACY_HEADER, tail=b""):
    """The layout before torch 1.6; `records` are key -> (number of elements, bytes)."""
    records = {"0": (6, np.arange(6, dtype="<f4").tobytes())} if records is None else records
    keys = pickled(b"](" + b"".join(map(text, records if keys is None else keys)) + b"e")
    data = b"".join(struct.pack("<q", count) + data for count, data in records.values())
    path.write_bytes(header + pickled(body) + keys + data + tail)
    return path


def write_state_dict(path, tensors, legacy=False):
    """An honest file of `{name: array}`."""
    described, records = {}, {}
    for i, (key, array) in enumerate(tensors.items()):
        array = np.asarray(array, order="C")
        described[key] = tensor(storage(str(i), array.size, KINDS[array.dtype.str], legacy), array.shape)
        records[str(i)] = (array.size, array.tobytes()) if legacy else array.tobytes()
    return (write_legacy if legacy else write_zip)(path, mapping(**described), records)
