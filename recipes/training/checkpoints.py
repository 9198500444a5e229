"""Checkpoints on disk: there whole or not at all, verified before an older one goes. Knows nothing of models.

A checkpoint is two files: `name.safetensors` with the numbers, and then `name.json` with their places, their sha256 and
the facts that belong to them. One whose second file is missing was never finished. Every file is written under another
name in the same folder, synced to the disk and then renamed, so a crash at any instant leaves what was there before.
"""

import hashlib
import json
import os
import re
import warnings

import numpy as np

from recipes.weights import places

DATA, MANIFEST, TEMPORARY = ".safetensors", ".json", ".tmp-"
_CHUNK, _SMALL = 16 << 20, 1 << 20  # bytes a call of write: at most, and about as many of small arrays together
_DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
}


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was written."""


def write(directory, name, arrays, facts):
    """Write a checkpoint and read it back.

    Args:
        directory: Folder, which exists.
        name: Name without a suffix, such as `"step-000000000120"`.
        arrays: Dict from names to numpy arrays.
        facts: What JSON can hold.

    Raises:
        OSError: If the disk is full or refuses; nothing of the new checkpoint is left then, and nothing else is touched.
        DamagedCheckpointError: If what is read back is not what was written.
    """
    arrays = {key: np.ascontiguousarray(value).reshape(np.shape(value)) for key, value in arrays.items()}
    tensors, place = {}, 0
    for key, value in arrays.items():
        tensors[key] = {
            "dtype": _DTYPES[value.dtype.name],
            "shape": list(value.shape),
            "data_offsets": [place, place + value.nbytes],
        }
        place += value.nbytes
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)  # numbers at a multiple of 8 bytes
    data, manifest = (os.path.join(directory, name + suffix) for suffix in (DATA, MANIFEST))
    flat = [value.reshape(-1).view(np.uint8) for value in arrays.values() if value.nbytes]
    digest, size = write_file(data, [len(header).to_bytes(8, "little"), header, *flat])
    body = {"sha256": digest, "bytes": size, "start": 8 + len(header), "tensors": tensors, "facts": facts}
    text = json.dumps(body, sort_keys=True)
    try:
        write_file(manifest, [json.dumps({"sha256": _sha256(text.encode()), "body": body}, sort_keys=True).encode()])
        read_manifest(directory, name)
        if places.digest(data) != digest:
            raise DamagedCheckpointError(f"{data} does not read back as it was written: the disk or its driver is faulty.")
    except BaseException:
        remove(directory, name)
        raise


def read(directory, name):
    """Return `(arrays, facts)` of a checkpoint whose every byte is checked.

    Raises:
        DamagedCheckpointError: If a file is missing, cut short or changed.
    """
    body = read_manifest(directory, name)
    path = os.path.join(directory, name + DATA)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DamagedCheckpointError(f"{path} cannot be read: {error}") from error
    if len(content) != body["bytes"] or _sha256(content) != body["sha256"]:
        raise DamagedCheckpointError(f"{path} is not the file that its manifest describes: cut short or changed.")
    arrays = {}
    for key, entry in body["tensors"].items():
        begin, end = (body["start"] + offset for offset in entry["data_offsets"])
        arrays[key] = np.frombuffer(content[begin:end], _dtype(entry["dtype"])).reshape(entry["shape"]).copy()
    return arrays, body["facts"]


def read_manifest(directory, name):
    """Return the body of a manifest: `"facts"`, `"tensors"`, `"sha256"`."""
    path = os.path.join(directory, name + MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        body = content["body"]
        right = content["sha256"] == _sha256(json.dumps(body, sort_keys=True).encode())
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} cannot be read: {error}") from error
    if not right:
        raise DamagedCheckpointError(f"{path} was changed after it was written.")
    return body


def names(directory, prefix):
    """Return the names of the finished checkpoints that begin with `prefix`, the newest first."""
    pattern = re.compile(re.escape(prefix) + r"\d+" + re.escape(MANIFEST))
    found = [name[: -len(MANIFEST)] for name in os.listdir(directory) if pattern.fullmatch(name)]
    return sorted(found, key=lambda name: int(name[len(prefix) :]), reverse=True)


def newest(directory, prefix):
    """Return `(name, arrays, facts)` of the newest checkpoint that is whole, or `None` if there never was one.

    One that is damaged is passed over with a warning.

    Raises:
        DamagedCheckpointError: If there are some, and none is whole.
    """
    problems = []
    for name in names(directory, prefix):
        try:
            result = (name, *read(directory, name))
        except DamagedCheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem} Going on from {name}.", stacklevel=3)
        return result
    if problems:
        raise DamagedCheckpointError(
            f"No checkpoint in {directory} is whole, and the run does not start over by itself: {' '.join(problems)} "
            "Copy one back from a backup, or choose another directory."
        )
    return None


def prune(directory, prefix, keep):
    """Remove all but the newest `keep` checkpoints of a prefix."""
    for name in names(directory, prefix)[keep:]:
        remove(directory, name)


def remove(directory, name):
    """Remove a checkpoint, its manifest first: half of it must not look whole."""
    for suffix in (MANIFEST, DATA):
        _unlink(os.path.join(directory, name + suffix))


def clean(directory):
    """Remove what a process that was killed has left: files under temporary names and data without a manifest."""
    present = set(os.listdir(directory))
    for name in present:
        alone = name.endswith(DATA) and name[: -len(DATA)] + MANIFEST not in present
        if name.startswith(TEMPORARY) or (alone and re.fullmatch(r"(checkpoint|best)-\d+", name[: -len(DATA)])):
            _unlink(os.path.join(directory, name))


def write_file(path, parts):
    """Write bytes to `path` so that a crash leaves the old file or the new one; return `(sha256, length)`."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f"{TEMPORARY}{os.getpid()}-{name}")
    digest, size = hashlib.sha256(), 0
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
        try:
            for part in _joined(parts):
                rest = memoryview(part)
                while len(rest):
                    done = os.write(handle, rest[:_CHUNK])
                    digest.update(rest[:done])
                    rest, size = rest[done:], size + done
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        _unlink(temporary)
        raise
    _sync_folder(directory)
    return digest.hexdigest(), size


def _joined(parts):
    """Join small parts, so that a model of a thousand small weights is not as many calls of the system."""
    small = bytearray()
    for part in parts:
        if len(part) >= _SMALL or len(small) >= _SMALL:
            yield bytes(small)
            small.clear()
        if len(part) >= _SMALL:
            yield part
        else:
            small.extend(memoryview(part))
    yield bytes(small)


def _sync_folder(directory):
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink(path):
    try:
        os.unlink(path)
    except OSError:  # it is not there, or the disk that refused the file refuses this too: `clean` comes back to it
        pass


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _dtype(name):
    if name == "BF16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({short: long for long, short in _DTYPES.items()}[name])
