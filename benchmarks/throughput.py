"""Examples a second and peak memory, training and predicting: ours beside the Keras peers and torch.

    python benchmarks/throughput.py [--rounds 3] [--rows resnet50v1 ...] [--systems recipes ...] [--steps 5]

Each system runs in a process of its own, one after the other, round after round, every other round backwards; a row's
ratio is the median, over the rounds, of ours to a peer of that round. What the systems are: image_systems.py,
sequence_systems.py, generative_systems.py. Run it in an environment that has keras-hub, torch, timm and transformers beside
recipes, on an idle machine. Results: benchmarks/results/throughput.csv, a line a process; rows that are there are not run
again.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import generative_systems
import image_systems
import sequence_systems
from rows import RESULTS, append, done, facts, read

PATH = RESULTS / "throughput.csv"
MODULES = (image_systems, sequence_systems, generative_systems)
ROWS = {row: systems for module in MODULES for row, systems in module.SYSTEMS.items()}  # ours first
WHAT = ("train", "predict")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a process; the median counts")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--systems", nargs="+", choices=sorted({s for systems in ROWS.values() for s in systems}))
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SYSTEM"), help="what a process of its own runs")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.steps)))
        return
    for number in range(arguments.rounds):
        for row in arguments.rows:
            for system in ROWS[row][:: -1 if number % 2 else 1]:
                key = {"row": row, "system": system, "round": number}
                if (not arguments.systems or system in arguments.systems) and not done(PATH, key):
                    append(PATH, {**key, **run(row, system, arguments.steps)})
    show(read(PATH), arguments.rows)


def run(row, system, steps):
    command = [sys.executable, __file__, "--one", row, system, "--steps", str(steps)]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if found.returncode:
        sys.exit(f"{row}, {system}:\n{found.stderr[-3000:]}")
    result = json.loads(found.stdout.splitlines()[-1])
    print(f"{row:18s} {system:20s}" + "".join(f" {what} {result[what]}/s" for what in WHAT), flush=True)
    return {**result, **{key: value for key, value in facts().items() if key == "date"}}


def measure(row, system, steps):
    module = next(module for module in MODULES if row in module.SYSTEMS)
    work, amount, parameters, versions = module.steps(row, system)
    rates = {what: round(amount / median_time(work[what], steps), 2) if what in work else "" for what in WHAT}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    cores = len(os.sched_getaffinity(0))
    return {**rates, "peak_mb": peak, "parameters": parameters, "cores": cores, "made_with": versions}


def median_time(step, steps):
    for _ in range(2):
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(rows, names):
    for name in names:
        rounds = sorted({row["round"] for row in rows if row["row"] == name})
        print(f"\n{name}: median of {len(rounds)} rounds, a second; ours over each")
        for system in ROWS[name]:
            line = f"  {system:20s}"
            for what in WHAT:
                pairs = [(value(rows, name, r, system, what), value(rows, name, r, "recipes", what)) for r in rounds]
                pairs = [(theirs, ours) for theirs, ours in pairs if theirs and ours]
                if pairs:
                    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
                    line += f" {what} {statistics.median(t for t, _ in pairs):8.1f} (x {ratio:.2f})"
            peaks = [int(row["peak_mb"]) for row in rows if (row["row"], row["system"]) == (name, system)]
            print(line + (f"  peak {statistics.median(peaks):.0f} MB" if peaks else ""))


def value(rows, name, number, system, what):
    found = [r for r in rows if (r["row"], r["round"], r["system"]) == (name, number, system)]
    return float(found[0][what]) if found and found[0][what] else None


if __name__ == "__main__":
    main()
