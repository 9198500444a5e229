"""How the time of `recipes.generate` grows with the number of tokens: in proportion, since what came before is kept.

    python benchmarks/generation.py [--lengths 64 128 256 512 1000] [--times 3]

GPT-2 small writes after one prompt of 16 ids, and a GPT of 4 blocks, 256 wide, after 8, greedily. The lengths take turns;
the median counts, without compiling. A token looks at all before it: the time for that grows with its place, and counts
where a model is small and its texts are many. Results: benchmarks/results/generation.csv, a row a length; rows that are
there are not run again.
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
# number of texts, arguments of recipes.gpt
MODELS = {
    "gpt2": (1, {"variant": "gpt2"}),
    "4x256": (8, {"vocabulary_size": 256, "max_length": 1024, "width": 256, "depth": 4, "heads": 4}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 128, 256, 512, 1000])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    for name in arguments.models:
        rows, given = MODELS[name]
        missing = [n for n in arguments.lengths if not done(PATH, {"model": name, "new_tokens": n})]
        for length, seconds in measure(rows, given, missing, arguments.times).items():
            row = {"model": name, "texts": rows, "new_tokens": length, "seconds": f"{seconds:.3f}"}
            append(PATH, {**row, "ms_a_token": f"{1000 * seconds / length:.3f}", **facts()})
    for row in read(PATH):
        print(f"{row['model']}, {row['texts']} texts, {row['new_tokens']:>5s} tokens: {row['ms_a_token']} ms a token")


def measure(rows, given, lengths, repeats):
    """Return the median seconds for each of some lengths."""
    model, times = recipes.gpt(**given), {length: [] for length in lengths}
    prompts = np.random.default_rng(0).integers(1, 256, (rows, 16))
    for turn in range(repeats + 1):  # the first compiles
        for length in lengths:
            start = time.perf_counter()
            texts = recipes.generate(model, prompts, max_new_tokens=length, temperature=0)
            if turn:
                times[length].append(time.perf_counter() - start)
            assert {len(text) for text in texts} == {length}
    return {length: statistics.median(seconds) for length, seconds in times.items()}


if __name__ == "__main__":
    main()
