"""`manifest.json`: what the files of a folder of `recipes.save` were when they were written, so that any change shows."""

import json
import os

from recipes.weights import keras_file
from recipes.weights.errors import UnsafeFileError
from recipes.weights.json_text import parse_object
from recipes.weights.places import check_digest, check_inside, digest

MANIFEST, RECIPE, WEIGHTS = "manifest.json", "recipe.json", "model.weights.h5"
FORMAT = "recipes 1"
MAX_MANIFEST = 16 << 20  # bytes
COPY = "Copy the whole folder again, or save the model again."


def write_manifest(folder, versions):
    """Write the manifest of a folder with `recipe.json` and `model.weights.h5`: the last file, once they are on the disk.

    Args:
        folder: The folder.
        versions: Dict of what wrote it.
    """
    files = {}
    for name in (RECIPE, WEIGHTS):
        path = os.path.join(folder, name)
        sync(path)
        files[name] = {"bytes": os.path.getsize(path), "sha256": digest(path)}
    with keras_file.open_members(os.path.join(folder, WEIGHTS)) as arrays:
        contents = {"format": FORMAT, "versions": versions, "files": files, "arrays": _show(arrays)}
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        json.dump(contents, file, indent=1)
    sync(os.path.join(folder, MANIFEST))
    sync(folder)


def check_folder(folder, sha256=None):
    """Refuse a folder whose files are not those that `recipes.save` wrote; return what `recipe.json` says.

    Args:
        folder: The folder.
        sha256: What the sha256 of its `manifest.json` must be, or `None`.

    Raises:
        UnsafeFileError: If a file is missing, not whole or another, or the arrays are not those of the manifest.
    """

    def refuse(rule, member=None, remedy=COPY):
        raise UnsafeFileError(folder, member, rule, remedy) from None

    places = {name: os.path.join(folder, name) for name in (MANIFEST, RECIPE, WEIGHTS)}
    for name, path in places.items():
        if not os.path.isfile(path):
            refuse(f"this is not a folder that recipes.save wrote and finished: it has no {name}")
        check_inside(path, folder)
    if sha256 is not None:
        check_digest(places[MANIFEST], sha256)
    manifest = parse_object(_read(places[MANIFEST]), refuse, limit=MAX_MANIFEST, member=MANIFEST)
    files, arrays = manifest.get("files"), manifest.get("arrays")
    if manifest.get("format") != FORMAT or not isinstance(files, dict) or not isinstance(arrays, dict):
        refuse(
            f"it is not a manifest of the format {FORMAT!r}", MANIFEST, "Load it with the version of recipes that wrote it."
        )
    for name in (RECIPE, WEIGHTS):
        said = files.get(name)
        size = os.path.getsize(places[name])
        if not isinstance(said, dict) or said.get("bytes") != size or not isinstance(said.get("sha256"), str):
            refuse(f"it has {size} bytes, which is not what the manifest says", name)
        if digest(places[name]) != said["sha256"]:
            refuse("its sha256 is not that of the manifest: it was changed, or belongs to another model or step", name)
    with keras_file.open_members(places[WEIGHTS]) as found:
        shown = _show(found)
    for name in sorted(arrays.keys() | shown.keys()):
        if arrays.get(name) != shown.get(name):
            refuse(f"the array is {shown.get(name)}, the manifest says {str(arrays.get(name))[:80]}", f"{WEIGHTS}, {name}")
    return parse_object(_read(places[RECIPE]), refuse, limit=MAX_MANIFEST, member=RECIPE)


def _show(arrays):
    """Return `{"layers/dense/vars/0": "float32 (4, 3)"}`."""
    return {name: f"{array.dtype.name} {tuple(array.shape)}" for name, array in sorted(arrays.items())}


def sync(path):
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # a folder, on Windows
        return
    try:
        os.fsync(handle)
    except OSError:  # some file systems cannot
        pass
    finally:
        os.close(handle)


def _read(path):
    with open(path, "rb") as file:
        return file.read(MAX_MANIFEST + 1)
