"""Open the eighty hostile files of tests/hostile_files.py: what becomes of each, in how much time and memory.

    python benchmarks/hostile.py

A process makes the files, opens each through every door that there is for it, and takes down the seconds of all its
threads and the largest growth of its resident memory; what the interpreter does meanwhile is watched by an audit hook.
Prints the table, writes benchmarks/results/hostile.csv anew, a row a file and door (of several files the worst), and exits
with 1 if one file got something else than the table says, took a second or 100 MB, or did anything besides.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rows import RESULTS, append, facts

PATH = RESULTS / "hostile.csv"
ROOT = Path(__file__).parents[1]


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.hostile_runner", folder]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the process ended with {done.returncode}")
    groups = {}
    for line in map(json.loads, done.stdout.splitlines()):
        if line.get("number"):  # the others are controls, which must be found wanting; the tests see to that
            groups.setdefault((line["number"], line["title"], line["door"]), []).append(line)
    PATH.unlink(missing_ok=True)
    made, problems = facts(), 0
    print(f"{'':>3} {'file':45} {'door':24} {'outcome':34} {'seconds':>8} {'MB':>6}")
    for (number, title, door), lines in sorted(groups.items()):
        counts = collections.Counter(line["outcome"] for line in lines)
        row = {
            "number": number,
            "title": title,
            "door": door,
            "files": len(lines),
            "outcome": ", ".join(f"{n} {outcome}" if len(lines) > 1 else outcome for outcome, n in counts.items()),
            "seconds": max(line["seconds"] for line in lines),
            "megabytes": max(line["megabytes"] for line in lines),
            "problem": "; ".join(sorted({line["problem"] for line in lines} - {""})),
        }
        problems += bool(row["problem"])
        append(PATH, {**row, **made})
        shown = f"{row['outcome']:34} {row['seconds']:8.3f} {row['megabytes']:6.1f} {row['problem']}"
        print(f"{number:3} {title:45} {door:24} {shown}")
    print(f"{sum(map(len, groups.values()))} openings, {problems} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
