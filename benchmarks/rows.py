"""The results of a benchmark: a CSV file that grows by a row as soon as there is one, so that a script goes on where it was.

Benchmarks that lie beside this file `from rows import ...`.
"""

import csv
import datetime
import os
import platform
import shlex
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def read(path):
    """Return the rows of a file as dicts of strings; none if there is no such file yet."""
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def done(path, key):
    """Return whether a row of the file has the values of the dict `key`."""
    return any(all(row[name] == str(value) for name, value in key.items()) for row in read(path))


def append(path, row):
    """Add a row, a dict, and return it. The file keeps its columns; a new one has those of the row."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.exists() and path.stat().st_size > 0
    columns = list(row)
    if old:
        with open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    if set(row) != set(columns):
        raise ValueError(f"{path.name} has the columns {columns}. Received a row with {list(row)}")
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow(row)
    return row


def facts():
    """Return how a result came about: `date`, `made_with` and `command`."""
    import keras

    import recipes

    made_with = f"recipes {recipes.__version__}, keras {keras.__version__} on {keras.backend.backend()}"
    return {
        "date": datetime.date.today().isoformat(),
        "made_with": f"{made_with}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores",
        "command": shlex.join(["python", *sys.argv]),
    }
