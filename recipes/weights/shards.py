"""Read weights that are split over several `.safetensors` files: `model.safetensors.index.json` says what is in which."""

import os
import re

from recipes.weights import safetensors_file
from recipes.weights.errors import UnsafeFileError
from recipes.weights.json_text import parse_object
from recipes.weights.places import check_inside

MAX_INDEX = 16 << 20  # bytes
SHARD = r"[A-Za-z0-9_][\w.-]{0,200}\.safetensors"
WHOLE = "Download or copy the whole folder again."


def read_shapes(path):
    """Return `{name: (shape, dtype)}` of the tensors of all shards that an index names; no tensor is read.

    Raises:
        UnsafeFileError: If the index or a shard breaks a rule.
    """
    return {name: found for shapes in _open(path).values() for name, found in shapes.items()}


def read(path):
    """Return `{name: array}` of the tensors of all shards that an index names.

    Raises:
        UnsafeFileError: If the index or a shard breaks a rule.
    """
    return {name: array for shard in _open(path) for name, array in safetensors_file.read(shard).items()}


def list_shards(path):
    """Return `{file name of a shard: names of its tensors}` as the index says; the shards are not looked at.

    Raises:
        UnsafeFileError: If the index breaks a rule.
    """

    def refuse(rule, member=None, remedy=WHOLE):
        raise UnsafeFileError(path, member, rule, remedy) from None

    with open(path, "rb") as file:
        index = parse_object(file.read(MAX_INDEX + 1), refuse, limit=MAX_INDEX)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        refuse("it has no weight_map, so it is not the index of a split .safetensors")
    shards = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not re.fullmatch(SHARD, shard):
            refuse(f"the weight_map names {ascii(shard)[:80]}, which is not a .safetensors file beside it", ascii(name[:80]))
        shards.setdefault(shard, set()).add(name)
    return shards


def _open(path):
    """Return `{path of a shard: {name: (shape, dtype)}}` once all are there and hold what the index says."""
    folder, result = os.path.dirname(os.path.abspath(path)), {}
    for shard, names in list_shards(path).items():
        place = os.path.join(folder, shard)
        if not os.path.isfile(place):
            raise UnsafeFileError(path, shard, "the shard is not there", WHOLE)
        check_inside(place, folder)
        result[place] = safetensors_file.read_shapes(place)
        for name in sorted(names ^ result[place].keys()):
            rule = f"the index and the shard do not both say that it holds {ascii(name[:80])}"
            raise UnsafeFileError(path, shard, rule, WHOLE)
    return result
