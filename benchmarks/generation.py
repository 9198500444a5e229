"""How the time of `recipes.generate` grows with the number of tokens: in proportion, since what came before is kept.

    python benchmarks/generation.py [--lengths 64 128 256 512 1024] [--times 3]

A GPT of 4 blocks, 256 wide, writes after 8 prompts of 16 ids, greedily. The lengths take turns; the median counts, without
compiling. Results: benchmarks/results/generation.csv, a row a length; rows that are there are not run again.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rows import RESULTS, append, done, facts, read

import recipes

PATH = RESULTS / "generation.csv"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    model = recipes.gpt(vocabulary_size=256, max_length=1040, width=256, depth=4, heads=4)
    prompts = np.random.default_rng(0).integers(1, 256, (8, 16))
    missing = [length for length in arguments.lengths if not done(PATH, {"new_tokens": length})]
    times = {length: [] for length in missing}
    for turn in range(arguments.times + 1):  # the first compiles
        for length in missing:
            start = time.perf_counter()
            texts = recipes.generate(model, prompts, max_new_tokens=length, temperature=0)
            if turn:
                times[length].append(time.perf_counter() - start)
            assert {len(text) for text in texts} == {length}
    for length in missing:
        seconds = statistics.median(times[length])
        row = {"new_tokens": length, "seconds": f"{seconds:.3f}", "ms_a_token": f"{1000 * seconds / length:.3f}"}
        append(PATH, {**row, **facts()})
    for row in read(PATH):
        print(f"{row['new_tokens']:>5s} tokens: {row['seconds']} s, {row['ms_a_token']} ms a token of 8 texts")


if __name__ == "__main__":
    main()
