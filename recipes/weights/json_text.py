"""Read a JSON object of a stranger: bounded before it is parsed, and without what JSON leaves open."""

import json

MAX_TOKENS = 400_000  # brackets, commas and colons; each may cost a hundred bytes when parsed
MAX_DEPTH = 100
DAMAGED = "Download or copy the file again."


def parse_object(data, refuse, *, limit, member=None):
    """Return the dict that `data` says.

    Args:
        data: Bytes.
        refuse: Function of a rule, a member and a remedy that raises `UnsafeFileError`.
        limit: Largest length of `data`.
        member: What `data` is, for errors.

    Returns:
        Dict. Every name in it is there once, and every number is finite.
    """

    def unique(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            refuse("it names something twice", member, DAMAGED)
        return dict(pairs)

    def finite(text):
        raise ValueError(f"{text} is no number of JSON")

    if len(data) > limit:
        refuse(f"it is longer than {limit} bytes", member, DAMAGED)
    tokens = sum(map(data.count, (b",", b":", b"[", b"{")))
    if tokens > MAX_TOKENS:
        refuse(f"it has {tokens} parts, more than {MAX_TOKENS}", member, DAMAGED)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=finite)
    except RecursionError:
        refuse("it is not JSON that can be read: too deep", member, DAMAGED)
    except ValueError as error:
        if hasattr(error, "rule"):  # from `unique`
            raise
        refuse(f"it is not JSON ({str(error)[:80]})", member, DAMAGED)
    if not isinstance(value, dict):
        refuse("it is not a JSON object", member, DAMAGED)
    if _depth(value) > MAX_DEPTH:
        refuse(f"it is nested deeper than {MAX_DEPTH}", member, DAMAGED)
    return value


def _depth(value):
    """Return how deep dicts and lists are nested, without recursion."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        children = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
        level = [item for item in children if isinstance(item, (dict, list))]
    return depth if not level else MAX_DEPTH + 1
