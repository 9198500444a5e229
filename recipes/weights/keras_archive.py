"""Look through a `.keras` file before Keras does: a zip archive of two texts and the weights."""

import os
import re
import warnings

import keras

from recipes.weights import keras_file, zip_archive
from recipes.weights.errors import UnsafeFileError
from recipes.weights.json_text import parse_object
from recipes.weights.keras_config import check_config

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_CONFIG, MAX_METADATA = 16 << 20, 1 << 16  # bytes
AGAIN = "Load it where you trust it and save it again with model.save."


def is_keras_archive(path):
    """Whether a file is a zip archive as Keras writes it: those of torch have all members in one folder."""
    with open(path, "rb") as file:
        start = file.read(30)
        name = file.read(int.from_bytes(start[26:28], "little"))
    return start.startswith(zip_archive.MAGIC) and b"/" not in name


def check_archive(path):
    """Refuse a `.keras` file that breaks a rule; return its weights, the bytes of an HDF5 file.

    Raises:
        UnsafeFileError: If it does. Nothing that the file asks for has been made or called.
    """

    def refuse(rule, member=None, remedy=AGAIN):
        raise UnsafeFileError(path, member, rule, remedy) from None

    if not os.path.isfile(path):
        refuse("there is no such file", remedy="Check the path.")
    with open(path, "rb") as file:
        start = file.read(16)
        if not start.startswith(zip_archive.MAGIC):
            refuse(f"this is not a .keras archive (first bytes {start!r})", remedy="Check that it is the file you mean.")
        archive, infos = zip_archive.open_archive(
            file, os.path.getsize(path), refuse, lambda infos: _check_names(infos, refuse)
        )
        sizes = {CONFIG: MAX_CONFIG, METADATA: MAX_METADATA}
        for info in infos:
            if info.file_size > sizes.get(info.filename, info.file_size):
                refuse(f"the member has {info.file_size} bytes, more than {sizes[info.filename]}", info.filename)
        texts = {info.filename: zip_archive.read_member(archive, info, refuse) for info in infos if info.filename in sizes}
        _check_version(path, parse_object(texts[METADATA], refuse, limit=MAX_METADATA, member=METADATA))
        (weights,) = (info for info in infos if info.filename == WEIGHTS)
        config = parse_object(texts[CONFIG], refuse, limit=MAX_CONFIG, member=CONFIG)
        check_config(config, refuse, elements=weights.file_size)
        data = zip_archive.read_member(archive, weights, refuse)
    if not data.startswith(keras_file.MAGIC):
        refuse("the weights are not an HDF5 file", WEIGHTS)
    return data


def _check_names(infos, refuse):
    for info in infos:
        name = info.orig_filename
        if zip_archive.is_path(name):
            refuse("the member's name leads out of the archive", ascii(name[:80]))
        if name not in (CONFIG, METADATA, WEIGHTS):
            refuse("Keras writes no member of that name for a model of layers and weights", ascii(name[:80]))
    missing = {CONFIG, METADATA, WEIGHTS} - {info.filename for info in infos}
    if missing:
        refuse(f"the archive has no {', '.join(sorted(missing))}")


def _check_version(path, metadata):
    """Warn of a file of a newer Keras, whose configuration may mean something that this one does not know."""
    version = str(metadata.get("keras_version", ""))[:40]
    numbers = re.match(r"(\d{1,6})\.(\d{1,6})", version)
    here = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if not numbers or tuple(map(int, numbers.groups())) > here:
        warnings.warn(
            f"weights file {str(path)!r} says that Keras {version!r} wrote it; this is Keras {keras.__version__}, which may "
            "read it otherwise."
        )
