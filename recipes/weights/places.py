"""Where the files of a folder may lie, and what their bytes must be."""

import hashlib
import hmac
import os
import re

from recipes.weights.errors import UnsafeFileError


def check_inside(path, folder):
    """Refuse a file of a folder if it is a link that leads out of it. The links of the hub's cache to its blobs do not.

    Raises:
        UnsafeFileError: If it does.
    """
    real, home = os.path.realpath(path), os.path.realpath(folder)
    allowed = [home]
    owner, _, rest = home.rpartition(f"{os.sep}snapshots{os.sep}")
    if owner and rest:  # the cache: models--owner--name/snapshots/REVISION/..., and models--owner--name/blobs
        allowed.append(os.path.join(owner, "blobs"))
    if not any(real.startswith(place + os.sep) for place in allowed):
        remedy = "Pass the file itself if you trust what the link points to."
        raise UnsafeFileError(path, None, "it is a link that leads out of its folder", remedy)


def digest(path):
    """Return the sha256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path, expected):
    """Refuse a file whose sha256 is not `expected`.

    Raises:
        UnsafeFileError: If it is another.
        ValueError: If `expected` is no sha256.
    """
    if not isinstance(expected, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", expected):
        raise ValueError(f"sha256 must be 64 hexadecimal digits. Received: sha256={expected!r}")
    found = digest(path)
    if not hmac.compare_digest(found, expected.lower()):
        rule = f"its sha256 is {found}, not {expected.lower()}"
        raise UnsafeFileError(path, None, rule, "Get the file again from where the digest comes from.")
