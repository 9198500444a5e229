"""Peak memory of training a GPT on one long text, with attention all at once and in chunks.

    python benchmarks/memory.py [--length 4096] [--chunks 0 512]

4 blocks of 128, 4 heads, a batch of one text, three steps; each number of queries at a time in a process of its own, 0: all
at once. `peak_mb` is the largest resident memory of the process, `start_mb` what it was before the first step, the model
built: what training takes is the difference.
Results: benchmarks/results/memory.csv, a row a process; rows that are there are not run again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

from rows import RESULTS, append, done, facts, read

PATH = RESULTS / "memory.csv"
STEPS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--chunks", type=int, nargs="+", default=[0, 512])
    parser.add_argument("--one", type=int, metavar="CHUNK", help="what a process of its own runs")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.length, arguments.one or None)))
        return
    import keras

    for chunk in arguments.chunks:
        key = {"backend": keras.backend.backend(), "length": arguments.length, "chunk": chunk}
        if not done(PATH, key):
            command = [sys.executable, __file__, "--length", str(arguments.length), "--one", str(chunk)]
            found = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            )
            append(PATH, {**key, **json.loads(found.stdout.splitlines()[-1]), **facts()})
    for row in read(PATH):
        print(*(f"{name} {row[name]}" for name in ("backend", "length", "chunk", "start_mb", "peak_mb", "step_seconds")))


def measure(length, chunk):
    import numpy as np

    import recipes

    model = recipes.gpt(vocabulary_size=256, max_length=length, width=128, depth=4, heads=4, dropout=0.0, chunk=chunk)
    ids = np.random.default_rng(0).integers(1, 256, (1, length))
    start, times = peak_mb(), []
    for _ in range(STEPS):
        begun = time.process_time()
        loss = float(np.ravel(model.train_on_batch(ids))[0])
        times.append(time.process_time() - begun)
    seconds = round(min(times), 2)
    return {"start_mb": start, "peak_mb": peak_mb(), "step_seconds": seconds, "loss": f"{loss:.5f}"}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
