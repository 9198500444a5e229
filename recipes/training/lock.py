"""One process a directory."""

import contextlib
import datetime
import json
import os
import socket

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".lock"


@contextlib.contextmanager
def lock(directory):
    """Hold `directory` for this process: a second one is refused, and that of a process that died is taken over.

    The file `.lock` is locked in the kernel, which lets go of it when the process ends, whichever way; it says who holds
    it. Where the kernel does not know, as between the hosts of some network file systems, what the file says decides.

    Raises:
        ValueError: If another process holds the directory.
        OSError: If the directory cannot be written.
    """
    path = os.path.join(directory, NAME)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        locked, holder = _try_lock(handle), _holder(handle)
        if locked is False:
            raise _refusal(path, holder, "is using it")
        if holder and (locked is None or holder.get("host") != socket.gethostname()):
            raise _refusal(path, holder, "has not given it back")
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        _put(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started}).encode())
        try:
            yield
        finally:
            _put(handle, b"")
    finally:
        os.close(handle)


def _try_lock(handle):
    """Return whether the lock was free, or `None` where nobody can tell."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _holder(handle):
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(handle, 1000) or b"{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _put(handle, content):
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    if content:
        os.write(handle, content)


def _refusal(path, holder, what):
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, started {holder.get('started', '?')},"
    return ValueError(
        f"directory must belong to one training at a time, and {who} {what}. Wait for it or choose another directory; if "
        f"that process no longer exists, remove {path}. Received: directory={os.path.dirname(path)!r}"
    )
