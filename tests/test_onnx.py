"""The weights of ONNX files: as torch wrote them, and files that lie about themselves.

small_torch.onnx and .pth are one network of torch 2.14.1, a convolution, BatchNorm, a scale and a matrix, as its
TorchScript exporter (`training=TrainingMode.PRESERVE`, no folding) and `torch.save` wrote it.
"""

from pathlib import Path

import numpy as np
import pytest

from recipes.weights import onnx_file, read_shapes, read_state_dict
from tests import onnx_files as o
from tests.test_weights import refused

FIXTURES = Path(__file__).parent / "fixtures"
ARRAY = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.fixture(autouse=True)
def fresh_keras():
    """Not needed here, and slow for so many short tests."""


def test_reads_what_torch_wrote():
    read, torch = (read_state_dict(FIXTURES / f"small_torch.{ending}") for ending in ("onnx", "pth"))
    del torch["bn.num_batches_tracked"]
    assert read.keys() == torch.keys() and len(read) == 9
    for name, array in torch.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    shapes = read_shapes(FIXTURES / "small_torch.onnx")
    assert shapes == {name: (array.shape, array.dtype) for name, array in read.items()}


def test_types_constants_and_packed_numbers(tmp_path):
    tensors = {"w": ARRAY, "half": np.float16([1.5, -2]), "double": np.arange(2.0), "scale": np.float32(3)}
    tensors |= {"shape": np.arange(2), "val_3": np.float32(0.5), "onnx::Mul_7": np.float32(2)}
    read = read_state_dict(o.write_onnx(tmp_path / "w.onnx", tensors))
    assert list(read) == ["w", "half", "double", "scale"]
    assert all(np.array_equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in read)
    listed = o.part(1, b"\x02\x03") + o.number(2, 1) + o.part(8, "w") + o.part(4, ARRAY.tobytes())  # packed, float_data
    upper_halves = (np.float32([1, -2.5]).view("<u4") >> 16).astype("<u2")
    (tmp_path / "p.onnx").write_bytes(o.model(listed, o.tensor("b", (2,), 16, upper_halves.tobytes())))
    read = read_state_dict(tmp_path / "p.onnx")
    np.testing.assert_array_equal(read["w"], ARRAY)
    np.testing.assert_array_equal(read["b"], [1, -2.5])


DATA = ARRAY.tobytes()
GOOD = o.tensor("w", (2, 3), 1, DATA)
HOSTILE = {
    "shape too large": (o.model(o.tensor("w", (2, 4), 1, DATA)), "does not need the 24 bytes"),
    "shape overflows": (o.model(o.tensor("w", (2**40, 2**40), 1, DATA)), "out of all proportion"),
    "negative size": (o.model(o.tensor("w", (2**64 - 1, 2), 1, DATA)), "out of all proportion"),
    "many dimensions": (o.model(o.tensor("w", (1,) * 30, 1, DATA)), "more than 16 dimensions"),
    "packed dimensions": (o.model(o.part(1, b"\1" * 1000) + o.number(2, 1) + o.part(9, DATA)), "more than 16 dimensions"),
    "another file": (o.model(o.tensor("w", (2, 3), 1, DATA, extra=o.part(13, o.part(1, "location")))), "another file"),
    "said to be elsewhere": (o.model(o.tensor("w", (2, 3), 1, DATA, extra=o.number(14, 1))), "another file"),
    "a segment": (o.model(o.tensor("w", (2, 3), 1, DATA, extra=o.part(3, b""))), "in parts"),
    "no numbers": (o.model(o.number(1, 6) + o.number(2, 1) + o.part(8, "w")), "in one place"),
    "numbers twice": (o.model(GOOD + o.part(9, DATA)), "there twice"),
    "two places": (o.model(GOOD + o.part(4, DATA)), "in one place"),
    "wrong list": (o.model(o.tensor("w", (2, 3), 1, DATA, field=10)), "another type"),
    "not packed": (o.model(o.number(4, 1) + GOOD), "not packed"),
    "same name": (o.model(GOOD, GOOD), "the same name"),
    "no name": (o.model(o.tensor("", (2, 3), 1, DATA)), "no name"),
    "long name": (o.model(o.tensor("w" * 500, (2, 3), 1, DATA)), "name is malformed"),
    "not UTF-8": (o.model(o.tensor(b"\xff\xfe", (2, 3), 1, DATA)), "not UTF-8"),
    "sparse": (o.model(GOOD, graph=o.part(15, b"")), "sparse"),
    "no weights": (o.model(), "holds no weights"),
    "no graph": (o.number(1, 8) + o.part(2, "us"), "holds 0 graphs"),
    "two graphs": (o.model(GOOD, after=o.part(7, b"")), "holds 2 graphs"),
    "group": (o.model(GOOD, after=o.varint(3 * 8 + 3)), "type that ONNX does not use"),
    "endless number": (o.model(GOOD, after=b"\x80" * 20), "malformed"),
    "field beyond": (o.model(GOOD, after=o.varint(20 * 8 + 2) + o.varint(2**62)), "truncated"),
    "fixed beyond": (o.model(GOOD, after=o.varint(20 * 8 + 1) + b"1234"), "beyond the message"),
    "tensor beyond": (o.model(GOOD).replace(o.part(9, DATA)[:2], b"\x4a\x7f"), "truncated|beyond"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_files(tmp_path, attack):
    data, rule = HOSTILE[attack]
    (tmp_path / "w.onnx").write_bytes(data)
    refused(tmp_path / "w.onnx", rule)


def test_too_many_fields(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "MAX_FIELDS", 50)
    (tmp_path / "w.onnx").write_bytes(o.model(GOOD, graph=o.part(1, b"") * 51))
    refused(tmp_path / "w.onnx", "more than 50 fields")


def test_every_truncation_is_refused(tmp_path):
    whole = o.model(GOOD)
    for length in range(3, len(whole) - len(o.part(8, o.number(2, 17)))):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        refused(tmp_path / "cut.onnx", "truncated|beyond|graphs|malformed|weights|one place|need|torch file")
