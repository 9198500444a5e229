"""Weight files: what honest ones give, and that broken and hostile ones are refused, fast and without side effects."""

import encodings.cp437  # noqa: F401, which zipfile would import while the tests watch imports
import json
import os
import struct
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from recipes.weights import UnsafeFileError, assign, load, read_shapes, read_state_dict
from tests import torch_files as t

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(autouse=True)
def fresh_keras():
    """Not needed here, and slow for so many short tests."""


def refused(path, rule):
    """Assert that `path` is refused with an error that says `rule`: in time, without memory, code or files."""
    events = []
    start = time.thread_time()
    with pytest.raises(UnsafeFileError, match=rule) as caught, Watch(events):
        read_state_dict(path)
    assert time.thread_time() - start < 1.0
    assert events == []
    assert str(path) in str(caught.value) and caught.value.remedy
    tracemalloc.start()
    with pytest.raises(UnsafeFileError, match=rule):
        read_shapes(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


class Watch:
    """Records what the interpreter does that reading a file must not."""

    active = None

    def __init__(self, events):
        self.events = events

    def __enter__(self):
        if not hasattr(Watch, "installed"):
            Watch.installed = True
            sys.addaudithook(lambda event, arguments: Watch.active and Watch.active.see(event, arguments))
        Watch.active = self

    def __exit__(self, *error):
        Watch.active = None

    def see(self, event, arguments):
        if event.startswith(("os.", "subprocess", "socket", "exec", "compile", "import", "pickle", "shutil", "ctypes")):
            self.events.append((event, arguments))
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.events.append((event, arguments))


# ---- honest files


ARRAYS = {
    "conv.weight": np.random.default_rng(0).normal(size=(2, 3, 1)).astype("float32"),
    "bias": np.arange(2.0),
    "half": np.float16([[1.5, -2.0]]),
    "count": np.int64(7),
    "empty": np.zeros((0, 3), "float32"),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_both_layouts(tmp_path, legacy):
    path = t.write_state_dict(tmp_path / "w.pth", ARRAYS, legacy)
    read = read_state_dict(path)
    assert list(read) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert read[key].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(read[key], array)
    assert read_shapes(path) == {key: (np.shape(array), np.asarray(array).dtype) for key, array in ARRAYS.items()}


@pytest.mark.parametrize("name", ["efficientnet_lite_tiny.pth", "efficientnet_b_tiny.pth"])
@pytest.mark.filterwarnings("ignore:.*module")
def test_reads_what_torch_wrote(name):
    shapes, tensors = read_shapes(FIXTURES / name), read_state_dict(FIXTURES / name)
    assert {key: (a.shape, a.dtype) for key, a in tensors.items()} == shapes
    assert tensors["_conv_stem.weight"].shape[1:] == (3, 3, 3)
    assert tensors["_bn0.num_batches_tracked"] == 1
    assert all(np.all(np.isfinite(a)) for a in tensors.values())


def test_views_share_a_storage(tmp_path):
    numbers = np.arange(12, dtype="<f4")
    body = t.mapping(
        whole=t.tensor(t.storage(numel=12), (3, 4)),
        transposed=t.tensor(t.storage(numel=12), (4, 3), (1, 4)),
        part=t.tensor(t.storage(numel=12), (2,), (5,), offset=3),
        single=t.tensor(t.storage(numel=12), (1, 4), (0, 1), offset=8),  # the stride of one element says nothing
    )
    read = read_state_dict(t.write_zip(tmp_path / "w.pth", body, {"0": numbers.tobytes()}))
    np.testing.assert_array_equal(read["whole"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(read["transposed"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(read["part"], [3, 8])
    np.testing.assert_array_equal(read["single"], numbers[None, 8:])


def test_bfloat16_becomes_float32(tmp_path):
    numbers = np.float32([1.0, -2.5, 3e38, 0.0])
    upper_halves = (numbers.view("<u4") >> 16).astype("<u2")
    path = t.write_state_dict(tmp_path / "w.pth", {"w": upper_halves})
    read = read_state_dict(path)["w"]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, numbers, rtol=2**-8)


def test_unwraps_checkpoints_and_prefixes(tmp_path):
    body = t.mapping(epoch=t.number(3), state_dict=t.mapping(**{"module._orig_mod.w": t.tensor(t.storage())}))
    path = t.write_zip(tmp_path / "w.pth", body)
    with pytest.warns(UserWarning, match="removed the prefix"):
        assert list(read_state_dict(path)) == ["w"]


def test_metadata_of_a_state_dict_is_ignored(tmp_path):
    body = t.name("collections", "OrderedDict") + b")R(" + t.text("w") + t.tensor(t.storage()) + b"u"
    body += t.mapping(_metadata=t.mapping(version=t.number(1))) + b"b"
    assert list(read_state_dict(t.write_zip(tmp_path / "w.pth", body))) == ["w"]


# ---- files of another type


@pytest.mark.parametrize(
    "data, rule",
    [
        (b"", "is empty"),
        (b"hello, this is a text", "first bytes are b'hello"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", "may be a pickle"),
        (bytes(257) + b"ustar" + bytes(300), "tar layout"),
        (t.LEGACY_HEADER[:9], "truncated"),
        (b"PK\x03\x04" + bytes(50), "truncated"),
        (b"PK\x05\x06" + bytes(18), "not a torch file"),
    ],
)
def test_other_types_are_named(tmp_path, data, rule):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    refused(path, rule)


def test_missing_files_and_folders(tmp_path):
    refused(tmp_path / "absent.pth", "no such file")
    refused(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    with pytest.raises(ValueError, match="weights must be the path"):
        read_state_dict(0)


def test_keras_archive_and_torchscript(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "model.keras")
    refused(tmp_path / "model.keras", "Keras archive")
    script = [("archive/code/__torch__.py", b"print()"), ("archive/constants.pkl", b"")]
    refused(t.write_zip(tmp_path / "script.pth", t.mapping(w=t.tensor(t.storage())), extra=script), "TorchScript")


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_refused(tmp_path, legacy):
    whole = t.write_state_dict(tmp_path / "w.pth", {"w": np.ones((2, 3), "float32")}, legacy).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnsafeFileError):
            read_state_dict(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:.*removed the prefix")
def test_every_changed_byte_is_refused_or_read(tmp_path, legacy):
    """The older layout has no checksum, so some changes only change a number. None may do anything else."""
    array = np.arange(6, dtype="float32").reshape(2, 3)
    whole = bytearray(t.write_state_dict(tmp_path / "w.pth", {"weight": array}, legacy).read_bytes())
    path = tmp_path / "changed.pth"
    read = 0
    for position in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            whole[position] ^= flip
            path.write_bytes(whole)
            whole[position] ^= flip
            try:
                tensors = read_state_dict(path)
            except UnsafeFileError:
                continue
            read += 1
            assert len(tensors) == 1
            if not legacy:
                np.testing.assert_array_equal(tensors["weight"], array)
    assert read < len(whole)  # a third of the changes at most


# ---- hostile pickles


def run(module, attribute, *arguments):
    return t.name(module, attribute) + t.items(*arguments) + b"R"


TENSOR = t.tensor(t.storage())
LAUGHS = b"(" * 200 + b")q\x01" + b"h\x01h\x01h\x01h\x01h\x01h\x01h\x01tq\x01" * 200  # 8 ** 200 empty tuples
ORDERED_DICT = t.name("collections", "OrderedDict")
HOSTILE = {
    "os.system": (t.mapping(w=run("os", "system", t.text("touch canary"))), "asks for 'os.system'"),
    "posix.system of protocol 0": (b"cposix\nsystem\n(S'touch canary'\ntR", "asks for 'posix.system'"),
    "eval": (t.mapping(w=run("builtins", "eval", t.text("1"))), "asks for 'builtins.eval'"),
    "eval by stack": (b"\x8c\x08builtins\x8c\x04eval\x93", "instruction SHORT_BINUNICODE"),
    "eval by stack, long strings": (t.text("builtins") + t.text("eval") + b"\x93", "instruction STACK_GLOBAL"),
    "load of torch": (t.mapping(w=run("torch", "load", t.text("x"))), "asks for 'torch.load'"),
    "dotted name": (t.name("collections", "OrderedDict.__class__"), "asks for"),
    "getattr": (run("builtins", "getattr", TENSOR, t.text("x")), "asks for"),
    "nested pickle": (run("pickle", "loads", t.text("x")), "asks for 'pickle.loads'"),
    "whole module": (t.name("torch.nn.modules.linear", "Linear") + b")\x81", "asks for 'torch.nn.*Linear'"),
    "NEWOBJ": (t.name("collections", "OrderedDict") + b")\x81", "instruction NEWOBJ"),
    "INST": (b"(ios\nsystem\n", "instruction INST"),
    "OBJ": (b"(" + t.name("collections", "OrderedDict") + b"o", "instruction OBJ"),
    "EXT1": (b"\x82\x01", "instruction EXT1"),
    "BUILD on a tensor": (TENSOR + t.mapping(__setstate__=t.text("x")) + b"b", "sets attributes"),
    "BUILD of another attribute": (ORDERED_DICT + b")R" + t.mapping(x=b"N") + b"b", "sets attributes"),
    "call of a tensor": (TENSOR + b")R", "calls something"),
    "call of a dict": (b"})R", "calls something"),
    "SETITEM on a tensor": (TENSOR + t.text("a") + t.number(1) + b"s", "sets items"),
    "APPEND to a tensor": (TENSOR + t.number(1) + b"a", "appends to something"),
    "billion laughs": (t.mapping(a=LAUGHS, w=TENSOR), "entry 'a' is not a tensor"),
    "billion laughs as a key": (b"}" + LAUGHS + b"Ns", "key that is neither"),
    "billion laughs as an identity": (b"(" + LAUGHS * 6 + b"tQ", "identity|persistent id"),
    "billion laughs called": (LAUGHS + b")R", "calls something"),
    "DUP": (b"}" + t.text("a") + b"22", "instruction DUP"),
    "string of 2^62 bytes": (b"\x8d" + struct.pack("<Q", 2**62), "malformed"),
    "string of 2^31 bytes": (b"X" + struct.pack("<I", 2**31), "malformed"),
    "integer of 2^31 bytes": (b"\x8b" + struct.pack("<i", 2**31 - 1), "malformed"),
    "bytearray": (b"\x96" + struct.pack("<Q", 2**62), "malformed"),
    "too many instructions": (b")0" * 400_000 + b"}", "instruction POP"),
    "too many tuples": (b")" * 600_000, "more than 500000 instructions"),
    "too long": (b"X" + struct.pack("<I", 9 << 20) + bytes(9 << 20), "longer than|malformed"),
    "memo of nothing": (b"h\x05", "malformed"),
    "empty stack": (b"R", "malformed"),
    "mark without end": (b"((}", "malformed"),
    "tuple of too few": (b"N\x87", "malformed"),
    "key without value": (b"}(" + t.text("a") + b"u", "without a value"),
    "protocol 4": (b"\x80\x04}", "protocol 4"),
    "persistent id of text": (t.text("storage") + b"Q", "identity is malformed"),
    "persistent id of a module": (t.items(*[t.text("module")] * 5) + b"Q", "persistent id|identity"),
    "a number": (t.items(TENSOR, t.number(5)), "no state dict"),
    "nothing in it": (t.mapping(epoch=t.items(TENSOR), state_dict=b"}"), "no state dict"),
    "a tensor alone": (TENSOR, "no state dict"),
    "not only tensors": (t.mapping(w=TENSOR, v=t.number(3)), "entry 'v' is not a tensor"),
    "two state dicts": (t.mapping(model=t.mapping(w=TENSOR), state_dict=t.mapping(w=TENSOR)), "more than one"),
}


@pytest.mark.parametrize("attack", HOSTILE)
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles(tmp_path, monkeypatch, attack, legacy):
    monkeypatch.chdir(tmp_path)
    body, rule = HOSTILE[attack]
    if legacy:
        path = t.write_legacy(tmp_path / "w.pth", body.replace(t.storage(), t.storage(legacy=True)))
    else:
        path = t.write_zip(tmp_path / "w.pth", body)
    refused(path, rule)
    assert os.listdir(tmp_path) == ["w.pth"]


FALSE_TENSORS = {
    "stride 0": (t.tensor(t.storage(numel=1), (10**6, 10**6), (0, 0)), "same elements twice"),
    "overlapping strides": (t.tensor(t.storage(), (3, 3), (1, 1)), "same elements twice"),
    "overlap in one direction": (t.tensor(t.storage(), (2, 2), (2, 2)), "same elements twice"),
    "shape beyond": (t.tensor(t.storage(), (7,)), "beyond its storage"),
    "offset beyond": (t.tensor(t.storage(), (2, 3), offset=1), "beyond its storage"),
    "stride beyond": (t.tensor(t.storage(), (2,), (6,)), "beyond its storage"),
    "number of elements overflows": (t.tensor(t.storage(), (2**31, 2**31, 4)), "beyond its storage|too large"),
    "size overflows": (t.tensor(t.storage(), (2**64,)), "too large"),
    "huge integer": (t.tensor(t.storage(), (1 << 2000,), (1,)), "too large"),
    "negative size": (t.tensor(t.storage(), (-2, -3)), "negative"),
    "negative stride": (t.tensor(t.storage(), (2, 3), (-3, 1), offset=3), "negative"),
    "negative offset": (t.tensor(t.storage(), (2,), offset=-1), "negative"),
    "shape of text": (t.tensor(t.storage(), ()).replace(t.numbers(()), t.items(t.text("a"))), "not an integer"),
    "shape without strides": (t.tensor(t.storage(), (2, 3), ()), "malformed"),
    "shape of bools": (t.tensor(t.storage(), (1,)).replace(t.number(1), b"\x88", 1), "not an integer"),
    "many dimensions": (t.tensor(t.storage(), (1,) * 30), "30 dimensions"),
    "empty and endless": (t.tensor(t.storage(), (0, 2**62)), "out of all proportion"),
    "negative storage": (t.tensor(t.storage(numel=-6), (0,)), "number of elements"),
    "storage too small": (t.tensor(t.storage(numel=5), (5,)), "bytes|elements"),
    "storage too large": (t.tensor(t.storage(numel=2**40), (2,)), "bytes|ends"),
    "wrong type of number": (t.tensor(t.storage(kind="DoubleStorage")), "bytes|ends"),
    "complex numbers": (t.tensor(t.storage(kind="ComplexFloatStorage")), "asks for 'torch.ComplexFloatStorage'"),
    "declared twice": (t.tensor(t.storage()) + b"0" + t.tensor(t.storage(kind="IntStorage")), "POP|twice"),
    "two types": (t.items(t.storage(), t.storage(kind="IntStorage")), "declared twice"),
    "no storage": (t.tensor(t.number(5)), "no storage"),
    "key of a path": (t.tensor(t.storage(key="../../evil")), "key is malformed"),
    "record missing": (t.items(TENSOR, t.tensor(t.storage(key="1"))), "same storages|ones that the tensors use"),
    "record not used": (t.number(5), "same storages|ones that the tensors use"),
}


@pytest.mark.parametrize("lie", FALSE_TENSORS)
@pytest.mark.parametrize("legacy", [False, True])
def test_false_tensors(tmp_path, lie, legacy):
    body, rule = FALSE_TENSORS[lie]
    if legacy:  # the older identities have one entry more, None
        body = body.replace(b"tQ", b"NtQ")
    write = t.write_legacy if legacy else t.write_zip
    refused(write(tmp_path / "w.pth", t.mapping(w=body)), rule)


# ---- hostile archives

GOOD = t.mapping(w=TENSOR)


def altered(**fields):
    def change(info):
        for field, value in fields.items():
            setattr(info, field, value)
        return info

    return change


def test_compressed_bomb(tmp_path):
    body = t.mapping(w=t.tensor(t.storage(numel=50 << 20), (50 << 20,)))
    path = t.write_zip(tmp_path / "w.pth", body, {"0": bytes(200 << 20)}, compress=True)
    refused(path, "compressed")


@pytest.mark.parametrize("member", ["archive/../../evil", "archive/data/../0", "archive/data/x", "archive/data/1\0.txt"])
def test_foreign_members(tmp_path, member):
    refused(t.write_zip(tmp_path / "w.pth", GOOD, extra=[(member, b"x")]), "no member of that name|same storages")


@pytest.mark.parametrize("member", ["/etc/passwd", "C:\\evil", "other/data/1", "../evil"])
def test_members_outside_the_folder(tmp_path, member):
    refused(t.write_zip(tmp_path / "w.pth", GOOD, extra=[(member, b"x")]), "not in one folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members(tmp_path):
    refused(t.write_zip(tmp_path / "w.pth", GOOD, extra=[("archive/data.pkl", t.pickled(GOOD))]), "two members")


def test_symbolic_link(tmp_path):
    refused(t.write_zip(tmp_path / "w.pth", GOOD, change=altered(external_attr=0o120777 << 16)), "symbolic link")


def test_missing_pickle_and_byte_order(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/version", "3\n")
    refused(tmp_path / "w.pth", "no data.pkl")
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as archive:
        archive.writestr("archive/data.pkl", t.pickled(GOOD))
        archive.writestr("archive/data/0", bytes(24))
        archive.writestr("archive/byteorder", "big")
    refused(tmp_path / "big.pth", "little-endian")


def test_bytes_around_an_archive(tmp_path):
    whole = t.write_zip(tmp_path / "w.pth", GOOD).read_bytes()
    for name, data, rule in [
        ("behind", whole + b"x", "bytes follow its end"),
        ("before", b"PK\x03\x04" + whole, "foreign bytes|damaged"),
        ("script", b"#!/bin/sh\n" + whole, "not a torch file"),
        ("comment", whole[:-2] + b"\x03\x00abc", "bytes follow its end"),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, rule)


def test_overlapping_members(tmp_path):
    """Both storages point at the same bytes: a way to make a small file large."""
    body = t.mapping(a=t.tensor(t.storage("0")), b=t.tensor(t.storage("1")))
    record = np.arange(6, dtype="<f4").tobytes()
    whole = bytearray(t.write_zip(tmp_path / "w.pth", body, {"0": record, "1": record}).read_bytes())
    places = [i for i in range(len(whole)) if whole[i : i + 4] == b"PK\x01\x02"]
    offsets = [struct.unpack_from("<I", whole, place + 42)[0] for place in places]
    struct.pack_into("<I", whole, places[3] + 42, offsets[2])
    (tmp_path / "w.pth").write_bytes(whole)
    refused(tmp_path / "w.pth", "overlap")


def test_encrypted_member(tmp_path):
    whole = bytearray(t.write_zip(tmp_path / "w.pth", GOOD).read_bytes())
    place = whole.index(b"PK\x01\x02")
    struct.pack_into("<H", whole, place + 8, 1)
    (tmp_path / "w.pth").write_bytes(whole)
    refused(tmp_path / "w.pth", "encrypted")


def test_too_many_members(tmp_path):
    path = t.write_zip(tmp_path / "w.pth", GOOD, extra=[(f"archive/data/{i}", b"") for i in range(1, 20_001)])
    refused(path, "20004 members")


def test_older_layout_around_the_pickle(tmp_path):
    good = t.mapping(w=t.tensor(t.storage(legacy=True)))
    data = np.arange(6, dtype="<f4").tobytes()
    assert list(read_state_dict(t.write_legacy(tmp_path / "good.pth", good))) == ["w"]
    big = t.LEGACY_HEADER.replace(b"\x88s.", b"\x89s.")
    other = t.LEGACY_HEADER.replace(b"M\xe9\x03", b"M\xe8\x03")
    for path, rule in [
        (t.write_legacy(tmp_path / "a", good, header=big), "little-endian"),
        (t.write_legacy(tmp_path / "b", good, header=other), "1001"),
        (t.write_legacy(tmp_path / "c", good, tail=b"x"), "1 bytes follow"),
        (t.write_legacy(tmp_path / "d", good, keys=["0", "0"]), "list of storages"),
        (t.write_legacy(tmp_path / "e", good, keys=["7"]), "list of storages"),
        (t.write_legacy(tmp_path / "f", good, {"0": (5, data)}), "6 elements that were declared"),
        (t.write_legacy(tmp_path / "g", good, {"0": (-1, data)}), "6 elements that were declared"),
        (t.write_legacy(tmp_path / "h", good, {"0": (6, data[:-1])}), "truncated"),
    ]:
        refused(path, rule)


# ---- safetensors


def write_safetensors(path, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_reads_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    arrays = {key: np.asarray(array, order="C") for key, array in ARRAYS.items()}
    save_file(arrays, tmp_path / "w.safetensors", metadata={"format": "np"})
    read = read_state_dict(tmp_path / "w.safetensors")
    for key, array in arrays.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)
    assert read_shapes(tmp_path / "w.safetensors") == {key: (a.shape, a.dtype) for key, a in arrays.items()}
    bf16 = write_safetensors(tmp_path / "b", {"w": entry(0, 4, (2,), "BF16")}, b"\x80\x3f\x20\xc0")
    np.testing.assert_array_equal(read_state_dict(bf16)["w"], [1.0, -2.5])


EIGHT = bytes(8)
BAD_SAFETENSORS = {
    "header of 2^63": ({"w": entry()}, EIGHT, 2**63, "header's length"),
    "header of 101 MB": ({"w": entry()}, EIGHT, 101 << 20, "header's length"),
    "header past the end": ({"w": entry()}, EIGHT, 500, "header's length"),
    "overlap": ({"a": entry(), "b": entry(4, 12)}, bytes(12), None, "overlaps"),
    "hole": ({"a": entry(), "b": entry(12, 20)}, bytes(20), None, "hole"),
    "trailing": ({"w": entry()}, bytes(9), None, "the file has"),
    "truncated": ({"w": entry()}, bytes(7), None, "the file has"),
    "shape overflows": ({"w": entry(0, 8, (2**62, 2**62))}, EIGHT, None, "does not need"),
    "negative shape": ({"w": entry(0, 8, (-2,))}, EIGHT, None, "non-negative"),
    "two negative sizes": ({"w": entry(0, 8, (-2, -1))}, EIGHT, None, "non-negative"),
    "reversed": ({"w": entry(8, 0)}, EIGHT, None, "does not need"),
    "duplicate": (b'{"w":%b,"w":%b}' % ((json.dumps(entry()).encode(),) * 2), EIGHT, None, "twice"),
    "unknown type": ({"w": entry(dtype="C64")}, EIGHT, None, "dtype"),
    "type not text": ({"w": entry(dtype=["F32"])}, EIGHT, None, "dtype"),
    "deep": (b'{"w":' + b"[" * 100_000, EIGHT, None, "not JSON"),
    "not UTF-8": (b'{"\xff":1}', EIGHT, None, "not JSON"),
    "metadata not text": ({"__metadata__": {"a": 1}, "w": entry()}, EIGHT, None, "map of strings"),
    "end at 2^62": ({"w": entry(0, 2**62)}, EIGHT, None, "does not need"),
    "odd size": ({"w": entry(0, 3, (2,), "BF16")}, bytes(3), None, "does not need"),
    "many entries": (b'{"":1' + b',"":1' * 900_000 + b"}", b"", None, "header's length"),
    "bools": (b'{"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4), None, "integers"),
    "list": (b"{}", b"", 1, "header's length"),
    "entry more": ({"w": {**entry(), "x": 1}}, EIGHT, None, "consist of"),
    "long integer": (b'{"w":' + b"9" * 5000 + b"}", EIGHT, None, "not JSON"),
    "empty and endless": ({"w": entry(0, 0, (0, 2**62))}, b"", None, "out of all proportion"),
}


@pytest.mark.parametrize("attack", BAD_SAFETENSORS)
def test_hostile_safetensors(tmp_path, attack):
    header, data, length, rule = BAD_SAFETENSORS[attack]
    refused(write_safetensors(tmp_path / "w.safetensors", header, data, length), rule)


# ---- assigning


def small_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(5, name="logits"),
        ],
        name="small",
    )
    mapping = {
        "small/conv/kernel": ("conv.weight", (2, 3, 1, 0)),
        "small/norm/gamma": ("bn.weight", None),
        "small/norm/beta": ("bn.bias", None),
        "small/norm/moving_mean": ("bn.running_mean", None),
        "small/norm/moving_variance": ("bn.running_var", None),
        "small/logits/kernel": ("fc.weight", (1, 0)),
        "small/logits/bias": ("fc.bias", None),
    }
    mapping = {v.path: mapping["small/" + v.path.removeprefix("small/")] for v in model.weights}
    rng = np.random.default_rng(1)
    tensors = {}
    for variable in model.weights:
        key, axes = mapping[variable.path]
        shape = variable.shape if axes is None else [variable.shape[axes.index(i)] for i in range(len(axes))]
        tensors[key] = rng.uniform(0.5, 1, shape).astype("float32")
    tensors["bn.num_batches_tracked"] = np.int64(3)
    return model, mapping, tensors


def unchanged(model, mapping, tensors, rule, **arguments):
    before = [np.array(value) for value in model.get_weights()]
    with pytest.raises(ValueError, match=rule) as caught:
        assign(model, mapping, tensors, **arguments)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(caught.value)


@pytest.mark.any_backend
def test_assign_transposes_and_sets_all():
    model, mapping, tensors = small_model()
    assert assign(model, mapping, tensors) == []
    kernel = keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    np.testing.assert_array_equal(kernel, tensors["conv.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], tensors["fc.weight"].T)
    np.testing.assert_array_equal(model.get_layer("norm").get_weights()[3], tensors["bn.running_var"])


@pytest.mark.any_backend
def test_assign_is_all_or_nothing():
    model, mapping, tensors = small_model()
    without = {key: value for key, value in tensors.items() if key != "fc.bias"}
    assert "logits/bias (fc.bias)" in unchanged(model, mapping, without, "1 variables without a tensor")
    assert "extra" in unchanged(model, mapping, {**tensors, "extra": np.zeros(2)}, "1 tensors without a variable")
    square = {**tensors, "conv.weight": np.zeros((4, 3, 3, 5), "float32")}
    assert "(3, 3, 3, 4), conv.weight gives (3, 5, 3, 4)" in unchanged(model, mapping, square, "1 other shapes")
    flat = {**tensors, "conv.weight": np.zeros(3, "float32")}
    assert "conv.weight gives (3,)" in unchanged(model, mapping, flat, "1 other shapes")
    for bad in (np.nan, np.inf):
        values = {**tensors, "fc.bias": np.float32([0, 0, 0, 0, bad])}
        unchanged(model, mapping, values, "'fc.bias' has values that are not finite")
    unchanged(model, mapping, {**tensors, "fc.bias": np.full(5, 1e300)}, "not finite in float32")
    unchanged(model, mapping, {**tensors, "fc.bias": np.arange(5)}, "1 not floating point: fc.bias is int64")
    unchanged(model, mapping, {}, "7 variables without a tensor.* and 1 more")
    incomplete = {path: entry for path, entry in mapping.items() if "gamma" not in path}
    unchanged(model, incomplete, tensors, "without a tensor")


@pytest.mark.any_backend
def test_only_the_head_may_stay():
    model, mapping, tensors = small_model()
    other = {**tensors, "fc.weight": np.ones((7, 144), "float32"), "fc.bias": np.ones(7, "float32")}
    unchanged(model, mapping, other, "2 other shapes")
    before = model.get_layer("logits").get_weights()
    with pytest.warns(UserWarning, match=r"left random.*logits/kernel, .*logits/bias"):
        left = assign(model, mapping, other, optional_head=("logits",))
    assert len(left) == 2
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], before[0])
    np.testing.assert_array_equal(model.get_layer("norm").get_weights()[0], tensors["bn.weight"])
    half = {**tensors, "fc.weight": np.ones((7, 144), "float32")}  # the bias would fit
    with pytest.warns(UserWarning, match="left random"):
        assert len(assign(model, mapping, half, optional_head=("logits",))) == 2


@pytest.mark.any_backend
def test_load_looks_at_names_before_it_reads(tmp_path, monkeypatch):
    model, mapping, tensors = small_model()
    path = t.write_state_dict(tmp_path / "w.pth", tensors)
    assert load(model, path, mapping) == []
    kernel = keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    np.testing.assert_array_equal(kernel, tensors["conv.weight"].transpose(2, 3, 1, 0))
    monkeypatch.setattr("recipes.weights.assigning.read_state_dict", lambda path: pytest.fail("read too early"))
    with pytest.raises(ValueError, match="do not fit the model 'small'"):
        load(model, t.write_state_dict(tmp_path / "v.pth", {"x": np.ones(3, "float32")}), mapping)
