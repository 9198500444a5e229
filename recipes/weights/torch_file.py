"""Read the state dict of a torch file (`.pth`, `.pt`, `.bin`) without torch, and without executing anything in it.

A torch file is a pickle that describes tensors, and raw records with their numbers: members of a zip archive since
torch 1.6, one after the other behind the pickle before. Every description is checked against its record and the records
against the file before any is read, so what a file can make us allocate is bounded by its own size.
"""

import functools
import io
import re
import struct
import warnings

import numpy as np

from recipes.weights import zip_archive
from recipes.weights.errors import UnsafeFileError
from recipes.weights.torch_pickle import ADVICE, BROKEN, DTYPES, MAX_PICKLE, Pickle, Tensor, show

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number 0x1950a86a20f9469cfc6c
MEMBERS = r"data\.pkl|data/[0-9]{1,40}|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id"
WRAPPERS = ("state_dict", "model_state_dict", "model", "netG_state_dict")  # what checkpoints call the state dict in them
JIT_ADVICE = 'Save its weights from torch: torch.save(torch.jit.load(file).state_dict(), "weights.pth").'


def read_shapes(path):
    """Return `{name: (shape, dtype)}` of the tensors of a torch file; no tensor is read.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with open(path, "rb") as file:
        tensors, _ = _open(path, file)
        return {name: (tensor.shape, tensor.storage.dtype) for name, tensor in tensors.items()}


def read(path):
    """Return `{name: array}` of the tensors of a torch file; bfloat16 comes as float32.

    Raises:
        UnsafeFileError: If the file breaks a rule.
    """
    with open(path, "rb") as file:
        tensors, read_storage = _open(path, file)
        storages = {tensor.storage for tensor in tensors.values()}
        data = {storage: _decode(storage, read_storage(storage)) for storage in storages}
        return {name: _view(data[tensor.storage], tensor) for name, tensor in tensors.items()}


def _open(path, file):
    """Return `{name: Tensor}` and a function that returns the bytes of a `Storage`."""
    refuse = functools.partial(_refuse, path)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    if start.startswith(zip_archive.MAGIC):
        contents, read_storage = _open_zip(path, file, size, refuse)
    elif start.startswith(LEGACY_MAGIC):
        contents, read_storage = _open_legacy(path, file, size, refuse)
    else:
        refuse(_what_is_it(start), remedy=ADVICE)
    return _state_dict(path, contents, refuse), read_storage


def _refuse(path, rule, member=None, remedy=BROKEN):
    raise UnsafeFileError(path, member, rule, remedy) from None


# ---- the layout since torch 1.6


def _open_zip(path, file, size, refuse):
    """Return what the pickle describes and a reader: `NAME/data.pkl`, and `NAME/data/KEY` for each storage."""
    archive, members = _open_archive(file, size, refuse)

    def read_member(name):
        return zip_archive.read_member(archive, members[name], refuse)

    if "data.pkl" not in members:
        refuse("the zip archive has no data.pkl, so torch.save did not write it", remedy=ADVICE)
    if members["data.pkl"].file_size > MAX_PICKLE:
        refuse(f"the description is longer than {MAX_PICKLE} bytes", "data.pkl", ADVICE)
    if "byteorder" in members and (members["byteorder"].file_size > 8 or read_member("byteorder") != b"little"):
        refuse("the numbers are not little-endian", "byteorder", "Save it on a little-endian machine.")
    pickle = Pickle(path, "data.pkl", io.BytesIO(read_member("data.pkl")), id_length=5)
    contents = pickle.load()
    if pickle.stream.read(1):
        refuse("bytes follow the end of the pickle", "data.pkl")
    records = {name.removeprefix("data/"): info for name, info in members.items() if name.startswith("data/")}
    for key in sorted(records.keys() ^ pickle.storages.keys()):
        refuse("the description and the records do not name the same storages", f"data/{key}")
    for key, storage in pickle.storages.items():
        if records[key].file_size != storage.nbytes:
            refuse(f"the record has {records[key].file_size} bytes, {storage.nbytes} were declared", f"data/{key}")
    return contents, lambda storage: read_member(f"data/{storage.key}")


def _open_archive(file, size, refuse):
    """Return the archive and `{name without its folder: ZipInfo}`, each of a name that torch writes."""

    def check_names(infos):
        names = [info.filename for info in infos]
        if "config.json" in names or "model.weights.h5" in names:
            remedy = "Use recipes.load_weights(model, path) for its weights, recipes.load_model(path, trusted=True) for all."
            refuse("this is a Keras archive, not a torch file", remedy=remedy)
        if len({name.partition("/")[0] for name in names}) != 1:
            refuse("torch.save did not write this zip archive: its members are not in one folder", remedy=ADVICE)
        for info in infos:
            name, shown = info.filename.partition("/")[2], show(info.orig_filename)
            if name == "constants.pkl" or name.startswith("code/"):
                refuse("this is a TorchScript archive, which holds a program", shown, JIT_ADVICE)
            if not re.fullmatch(MEMBERS, name) or info.filename != info.orig_filename:
                refuse("torch.save writes no member of that name", shown, ADVICE)

    archive, infos = zip_archive.open_archive(file, size, functools.partial(refuse, remedy=ADVICE), check_names)
    return archive, {info.filename.partition("/")[2]: info for info in infos}


# ---- the layout before torch 1.6


def _open_legacy(path, file, size, refuse):
    """Return what the fourth pickle describes and a reader: each storage's length and numbers follow the fifth."""
    file.seek(0)
    stream = io.BytesIO(file.read(MAX_PICKLE))
    stream.seek(len(LEGACY_MAGIC))
    pickle = Pickle(path, "header", stream, id_length=6)
    version, system = pickle.load(), pickle.load()
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        refuse("the file is not of version 1001 or its numbers are not little-endian", "header", ADVICE)
    pickle.member = "pickle"
    contents, keys = pickle.load(), pickle.load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        refuse("the list of storages is not a list of strings", "storages")
    if sorted(keys) != sorted(pickle.storages):
        refuse("the list of storages does not name the ones that the tensors use", "storages")
    positions, end = {}, stream.tell()
    for key in keys:
        storage = pickle.storages[key]
        file.seek(end)
        length = file.read(8)
        positions[key] = end + 8
        end += 8 + storage.nbytes
        if end > size:
            refuse(f"the file is truncated: it ends at byte {size}, the record at {end}", f"storage {key}")
        if struct.unpack("<q", length)[0] != storage.numel:
            refuse(f"the record does not have the {storage.numel} elements that were declared", f"storage {key}")
    if end != size:
        refuse(f"{size - end} bytes follow the last record")

    def read_storage(storage):
        file.seek(positions[storage.key])
        return file.read(storage.nbytes)

    return contents, read_storage


def _what_is_it(start):
    """Say what a file is that is not a torch file, from its first 512 bytes."""
    if not start:
        return "the file is empty"
    if LEGACY_MAGIC.startswith(start):
        return "the file is truncated"
    if start[257:262] == b"ustar" or start.startswith(b"storages\0"):
        return "this is the tar layout of torch before 0.2, which is not read"
    if start.startswith(b"\x89HDF"):
        return "this is an HDF5 file, not a torch file"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file it stands for"
    if start.startswith(b"\x80"):
        return "this may be a pickle, but torch.save did not write it"
    return f"this is not a torch file; its first bytes are {start[:16]!r}"


# ---- from what the pickle describes to arrays


def _state_dict(path, contents, refuse):
    """Return `{name: Tensor}`: the contents or what they wrap, without the prefixes of wrapped models."""
    if isinstance(contents, dict) and not any(isinstance(value, Tensor) for value in contents.values()):
        keys = [key for key in WRAPPERS if isinstance(contents.get(key), dict)]
        if len(keys) > 1:
            refuse(f"it holds more than one state dict: {', '.join(keys)}", remedy=ADVICE)
        contents = contents[keys[0]] if keys else contents
    if not isinstance(contents, dict) or not contents:
        refuse("it holds no state dict, that is, names with their tensors", remedy=ADVICE)
    for name, value in contents.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            refuse(f"the entry {show(str(name))} is not a tensor with a name", remedy=ADVICE)
    tensors = dict(contents)
    for prefix in ("module.", "_orig_mod.", "module."):  # DataParallel, torch.compile, and one in the other
        if all(name.startswith(prefix) for name in tensors):
            warnings.warn(f"weights file {str(path)!r}: removed the prefix {prefix!r} that every name starts with")
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _decode(storage, data):
    """Return the numbers of a record as a flat array."""
    flat = np.frombuffer(data, DTYPES[storage.kind])
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        return (flat.astype("<u4") << 16).view("<f4")
    return flat.astype(storage.dtype, copy=False)


def _view(flat, tensor):
    """Return a tensor as an array. That its elements lie in the record was checked when it was described."""
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
