"""Files of the Hugging Face hub, by a name that says which revision: `"owner/name@<40 hexadecimal digits>"`.

A branch such as `main` may hold other weights tomorrow, so a name without a revision is refused.
"""

import os
import re

from recipes.weights import shards

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # the first that is there is read
FORM = "owner/name@<the 40 hexadecimal digits of a revision>, optionally followed by /file.safetensors"
PART = r"[A-Za-z0-9_][\w.-]*"
NAME = re.compile(rf"({PART}/{PART})@([0-9a-f]{{40}})((?:/{PART})+)?", re.ASCII)
LIKE_A_NAME = re.compile(rf"{PART}/{PART}(@.*)?", re.ASCII)
AGAIN = "Check the name, the connection and, for a private model, `hf auth login`."
FILE_ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".keras", ".ckpt", ".npz")


def is_name(path):
    """Say whether `path` is a name of the hub and nothing on this disk.

    Raises:
        ValueError: If it looks like a name of the hub but says no revision.
    """
    if not isinstance(path, str) or os.path.lexists(path):
        return False
    if NAME.fullmatch(path):
        return True
    if LIKE_A_NAME.fullmatch(path) and ("@" in path or not path.endswith(FILE_ENDINGS)):
        raise ValueError(
            f"weights must be an existing file or folder, or a name of the Hugging Face hub with its revision: {FORM}. "
            f"The page of the model lists its revisions under 'Files', 'History'. Received: weights={path!r}"
        )
    return False


def download(name, beside=()):
    """Download `config.json` and the weights of a name of the hub, unless they are in its cache; return their path.

    Args:
        name: The name.
        beside: More files that are wanted if the repository has them.

    Raises:
        ValueError: If `huggingface_hub` is missing, the hub cannot be reached or has no such file.
    """
    repository, revision, file = NAME.fullmatch(name).groups()
    try:
        import huggingface_hub
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise ValueError(
            f"weights={name!r} needs the package huggingface_hub. Install it: pip install keras-recipes[weights]"
        ) from error

    def fetch(file):
        """Return the path, or `None` if the repository has no such file."""
        try:
            return huggingface_hub.hf_hub_download(repository, file, revision=revision)
        except LocalEntryNotFoundError as error:  # it is not in the cache, and the hub did not answer
            if huggingface_hub.try_to_load_from_cache(repository, file, revision=revision) is not None:
                return None  # the cache knows that there is none
            raise ValueError(f"weights: {file} of {name!r} could not be downloaded ({_short(error)}). {AGAIN}") from error
        except EntryNotFoundError:
            return None
        except Exception as error:  # no such repository or revision, no access, no connection
            raise ValueError(f"weights: {file} of {name!r} could not be downloaded ({_short(error)}). {AGAIN}") from error

    folder = os.path.dirname(file[1:]) if file else ""
    for other in ("config.json", *beside):  # lands beside the weights, where `read_config` looks
        fetch(f"{folder}/{other}" if folder else other)
    wanted = (file[1:],) if file else WEIGHTS
    found = next(filter(None, map(fetch, wanted)), None)
    if found is None:
        raise ValueError(f"weights: {name!r} has no {' nor '.join(wanted)}. Name the file: {FORM}")
    if found.endswith(".index.json"):
        for shard in shards.list_shards(found):
            fetch(f"{folder}/{shard}" if folder else shard)
    return found


def _short(error):
    return " ".join(str(error).split())[:200]
