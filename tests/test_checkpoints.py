"""Checkpoints on disk: whole or not there, whatever happens while they are written; one process a directory."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from recipes.training import checkpoints
from recipes.training.checkpoints import DamagedCheckpointError
from recipes.training.lock import lock

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ARRAYS = {
    "a/kernel": np.arange(6, dtype="float32").reshape(2, 3),
    "seed": np.array([1, 2**32 - 1], "uint32"),
    "count": np.array(7, "int64"),
    "empty": np.zeros((0, 4), "float64"),
    "flags": np.array([True, False]),
}


def put(folder, number, facts=None):
    arrays = {**ARRAYS, "a/kernel": ARRAYS["a/kernel"] + number}
    checkpoints.write(str(folder), f"checkpoint-{number:08d}", arrays, facts or {"number": number})


def take(folder):
    return checkpoints.newest(str(folder), "checkpoint-")


def test_what_is_read_is_what_was_written(tmp_path):
    put(tmp_path, 0, {"loss": float("nan"), "text": "å"})
    name, arrays, facts = take(tmp_path)
    assert name == "checkpoint-00000000" and set(arrays) == set(ARRAYS) and facts["text"] == "å"
    for key, value in ARRAYS.items():
        assert arrays[key].dtype == value.dtype and np.array_equal(arrays[key], value) and arrays[key].shape == value.shape
    assert take(tmp_path / "..") is None  # a folder without checkpoints
    safetensors = pytest.importorskip("safetensors.numpy")  # others can read the file too
    loaded = safetensors.load_file(tmp_path / f"{name}.safetensors")
    assert np.array_equal(loaded["a/kernel"], ARRAYS["a/kernel"])


def test_the_newest_that_is_whole_is_taken_and_the_damaged_named(tmp_path):
    for number in range(4):
        put(tmp_path, number)
    checkpoints.prune(str(tmp_path), "checkpoint-", 3)
    assert checkpoints.names(str(tmp_path), "checkpoint-") == [f"checkpoint-0000000{n}" for n in (3, 2, 1)]
    data, manifest = tmp_path / "checkpoint-00000003.safetensors", tmp_path / "checkpoint-00000002.json"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.warns(UserWarning, match="00000003.*Going on from checkpoint-00000001"):
        assert take(tmp_path)[2] == {"number": 1}
    body = json.loads((tmp_path / "checkpoint-00000001.json").read_text())
    body["body"]["facts"]["number"] = 8
    (tmp_path / "checkpoint-00000001.json").write_text(json.dumps(body))
    with pytest.raises(DamagedCheckpointError, match="does not start over.*was changed after it was written"):
        take(tmp_path)


def test_a_full_disk_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    put(tmp_path, 0)
    before = sorted(os.listdir(tmp_path))
    write = os.write
    for full_after in range(2):  # calls of write that still succeed
        calls = []

        def fail(handle, content, calls=calls, full_after=full_after):
            calls.append(1)
            if len(calls) > full_after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(handle, content)

        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            put(tmp_path, 1)
        assert sorted(os.listdir(tmp_path)) == before and take(tmp_path)[2] == {"number": 0}
    monkeypatch.undo()
    monkeypatch.setattr(
        os, "write", lambda handle, content: write(handle, content[:3])
    )  # a disk that takes little at a time
    put(tmp_path, 1)
    assert take(tmp_path)[2] == {"number": 1}


CHILD = """
import os, signal, sys
import numpy as np
from recipes.training import checkpoints
folder, stop, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
instants = 0
def hooked(function):
    def call(*arguments):
        instant()
        result = function(*arguments)
        instant()
        return result
    return call
def instant():
    global instants
    instants += 1
    if instants == stop:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("open", "write", "fsync", "replace", "unlink", "close"):
    setattr(os, name, hooked(getattr(os, name)))
for number in (1, 2):
    try:
        checkpoints.write(folder, f"checkpoint-{number:08d}", {"a": np.full(1000, number, "float32")}, {"number": number})
        checkpoints.prune(folder, "checkpoint-", 2)
    except OSError as error:
        print(error.errno)
print(instants)
"""


def child(folder, stop=0, limit=0):
    command = [sys.executable, "-c", CHILD, str(folder), str(stop), str(limit)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60)


def test_killed_at_any_instant_a_whole_one_is_left(tmp_path):
    done = child(tmp_path / "x", stop=0) if not (tmp_path / "x").mkdir() else None
    instants = int(done.stdout)
    assert instants > 50 and done.returncode == 0
    for stop in range(1, instants + 1, 5):
        folder = tmp_path / str(stop)
        folder.mkdir()
        put(folder, 0)
        assert child(folder, stop).returncode == -9
        checkpoints.clean(str(folder))
        name, arrays, facts = take(folder)
        number = facts["number"]
        assert number >= (1 if stop > instants // 2 + 4 else 0)  # what was finished before the second began is there
        assert number == 0 or np.array_equal(arrays["a"], np.full(1000, number, "float32"))
        left = sorted(os.listdir(folder))
        assert len(left) % 2 == 0 and not any(".tmp" in name for name in left) and len(left) <= 6
        put(folder, 9)  # and the next run can write
        assert take(folder)[2] == {"number": 9}


def test_a_limit_on_the_size_of_files(tmp_path):
    put(tmp_path, 0)
    assert child(tmp_path, limit=2000).stdout.split()[:2] == [str(errno.EFBIG)] * 2
    assert take(tmp_path)[2] == {"number": 0} and len(os.listdir(tmp_path)) == 2


HOLDER = """
import sys, time
from recipes.training.lock import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_a_directory(tmp_path):
    folder = str(tmp_path)
    with lock(folder):
        with pytest.raises(ValueError, match=f"process {os.getpid()} on .* is using it"), lock(folder):
            pass
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {holder.pid} on .* is using it"), lock(folder):
            pass
    finally:
        holder.kill()
        holder.wait()
    with lock(folder):  # what a dead process held is taken over
        pass
    assert (tmp_path / ".lock").read_text() == ""
    (tmp_path / ".lock").write_text('{"pid": 5, "host": "elsewhere"}')
    with pytest.raises(ValueError, match="process 5 on elsewhere.*has not given it back.*remove"), lock(folder):
        pass
