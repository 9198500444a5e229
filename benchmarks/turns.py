"""Ours beside one Keras peer in one process, about a second each in turns: CPU time of training and of predicting.

    python benchmarks/turns.py [--rows bert_small ddpm ...] [--turns 9]

benchmarks/throughput.py gives each system a process of its own, as its users have it, and its ratios differ from round to
round by up to a tenth. Here both meet the same machine at the same moment, so that a hundredth can be told, but not their
memory. A ratio is the median CPU time of the peer's turns over that of ours: above 1, ours is faster. Rows already in
benchmarks/results/turns.csv are not run again.
"""

import argparse
import statistics
import time

from rows import RESULTS, append, done, facts, read
from throughput import MODULES, ROWS, WHAT

PATH = RESULTS / "turns.csv"
TURN = 1.0  # seconds
PEERS = ("keras.applications", "keras_hub", "keras", "by hand")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    for row in arguments.rows:
        for peer in [system for system in ROWS[row] if system in PEERS]:
            key = {"row": row, "peer": peer, "turns": arguments.turns}
            if not done(PATH, key):
                append(PATH, {**key, **compare(row, peer, arguments.turns), **facts()})
    for found in read(PATH):
        print(*(f"{found[name]:>18s}" for name in ("row", "peer", "turns", *WHAT)))


def compare(row, peer, turns):
    """Return, for training and predicting, the CPU time of the peer over that of ours."""
    module = next(module for module in MODULES if row in module.SYSTEMS)
    ours, theirs = (module.steps(row, system)[0] for system in ("recipes", peer))
    ratios = dict.fromkeys(WHAT, "")
    for what in ours:
        both = [ours[what], theirs[what]]
        times = [[], []]
        for step in both:
            cpu_time(step, 2)
        steps = max(1, round(TURN / cpu_time(both[0], 1)))
        for turn in range(turns):
            for i in (1, 0) if turn % 2 else (0, 1):
                times[i].append(cpu_time(both[i], steps))
        ratios[what] = f"{statistics.median(times[1]) / statistics.median(times[0]):.3f}"
        print(row, peer, what, ratios[what], f"{steps} steps a turn", flush=True)
    return ratios


def cpu_time(step, steps):
    start = time.process_time()
    for _ in range(steps):
        step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
