"""Tables in text files: numeric columns, categories and a target."""

import csv
import difflib
import gzip
import zlib

import numpy as np

from recipes.data.loading import Source
from recipes.data.targets import encode_targets

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in lower case
FEW = 20  # whole-number targets of at most this many values are class labels


def read_table(path, target, task, drop):
    """Read a `.csv` or `.tsv`, gzipped or not. Categories and medians are learnt later, from the training part."""
    header, rows = _rows(path)
    columns = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
    if isinstance(drop, str):
        drop = (drop,)
    for name in drop:
        if name not in columns:
            raise ValueError(f"drop: {_unknown(path, name, header)}")
    target = _target(path, target, header)
    if target in drop:
        raise ValueError(f"drop must not hold the target. Received: target={target!r}, drop={tuple(drop)!r}")
    features = {name: _parse(path, name, columns[name]) for name in header if name not in (*drop, target)}
    if not features:
        raise ValueError(f"{path} has no column beside the target {target!r}.")
    targets, task, class_names, num_classes = encode_targets(
        {"train": _parse_target(path, target, columns[target], task)}, task
    )
    return Source({"train": (features, targets["train"])}, task, num_classes, class_names, target=target, encode=_encode)


def _encode(parts):
    """Learn medians and categories from the training part and apply them to all parts."""
    train = parts["train"][0]
    numeric = [name for name in train if train[name].dtype.kind == "f"]
    texts = [name for name in train if train[name].dtype.kind != "f"]
    medians, filled = {}, {}
    for name in numeric:
        known = train[name][~np.isnan(train[name])]
        if not len(known):
            raise ValueError(f"Column {name!r} has no value in the training part. Leave it out: drop=[{name!r}].")
        medians[name] = np.float32(np.median(known))
        if any(np.isnan(x[name]).any() for x, _ in parts.values()):
            filled[name] = float(medians[name])
    values = {name: np.setdiff1d(train[name], [""]) for name in texts}
    encoded = {}
    for part, (x, y) in parts.items():
        codes = np.zeros((len(y), len(texts)), "int32")
        for i, name in enumerate(texts):
            position = np.searchsorted(values[name], x[name])
            known = np.isin(x[name], values[name])
            codes[known, i] = position[known] + 1
        numbers = np.empty((len(y), len(numeric)), "float32")
        for i, name in enumerate(numeric):
            numbers[:, i] = np.where(np.isnan(x[name]), medians[name], x[name])
        inputs = {"numeric": numbers, "categories": codes}
        encoded[part] = (inputs if texts and numeric else inputs["numeric"] if numeric else {"categories": codes}, y)
    return encoded, {
        "input_shape": (len(numeric),),
        "feature_names": tuple(numeric),
        "categories": tuple(len(values[name]) + 1 for name in texts),
        "category_values": {name: tuple(values[name].tolist()) for name in texts},
        "filled": filled,
    }


def _rows(path):
    """`(header, rows)` as texts, every row as long as the header."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = []
            for row in reader:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: the header has {len(header)} fields, this row {len(row)}."
                    )
                rows.append(row)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}).") from error
    if len(rows) < 2:
        raise ValueError(f"{path} must hold a header and at least two rows. It holds {len(rows)} rows.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns called {twice[0]!r}. Rename them.")
    return header, rows


def _target(path, target, header):
    if target is None and header[-1] == "target":
        return "target"
    if target is None:
        raise ValueError(
            f"target must name the column of {path} to predict; only a last column called 'target' is taken unasked. "
            f"Columns: {', '.join(header)}"
        )
    if target not in header:
        raise ValueError(f"target: {_unknown(path, target, header)}")
    return target


def _unknown(path, name, header):
    lower = {column.lower(): column for column in header}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1)
    hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
    return f"{path} has no column {name!r}.{hint} Columns: {', '.join(header)}"


def _parse(path, name, fields):
    """A column as float32 with NaN for what is missing, or as texts with "" for what is missing."""
    if not name:
        raise ValueError(
            f"{path} has a column without a name, probably row numbers, which would tell the order of the rows. "
            'Leave it out: drop=[""], or name it.'
        )
    missing = np.array([field.lower() in MISSING for field in fields])
    if missing.all():
        raise ValueError(f"{path}: column {name!r} is empty. Leave it out: drop=[{name!r}].")
    numbers = _numbers(fields, missing)
    if numbers is not None:
        return _check_finite(path, name, numbers, missing)
    texts = np.where(missing, "", np.array(fields))
    distinct = len(np.unique(texts))
    if distinct > max(50, len(fields) / 2):
        raise ValueError(
            f"{path}: column {name!r} has {distinct} different texts in {len(fields)} rows, such as "
            f"{str(texts[~missing][0])!r}: an identifier, a date or free text, from which categories learn nothing. "
            f"Leave it out: drop=[{name!r}]."
        )
    return texts


def _numbers(fields, missing):
    """The fields as float64, NaN where missing, or None if one is a text."""
    try:
        return np.array(["nan" if gone else field for field, gone in zip(fields, missing, strict=True)], "float64")
    except ValueError:
        return None


def _check_finite(path, name, numbers, missing):
    with np.errstate(over="ignore"):
        numbers = numbers.astype("float32")
    wrong = ~np.isfinite(numbers) & ~missing
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        raise ValueError(f"{path}: column {name!r} is infinite, or beyond float32, in row {row} after the header.")
    return numbers


def _parse_target(path, name, fields, task):
    """The target's column as texts, integers or floats: what it shall be taken for."""
    missing = np.array([field.lower() in MISSING for field in fields])
    if missing.any():
        raise ValueError(
            f"{path}: the target {name!r} is missing in {missing.sum()} rows, first in row "
            f"{int(np.argmax(missing)) + 1} after the header. Remove those rows."
        )
    numbers = _numbers(fields, missing)
    if numbers is None:
        return np.array(fields)
    _check_finite(path, name, numbers, missing)
    whole = (numbers == np.rint(numbers)).all() and np.abs(numbers).max() < 2**53
    if whole and (task == "classify" or len(np.unique(numbers)) <= FEW):
        return numbers.astype("int64")
    return numbers
