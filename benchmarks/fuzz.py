"""Change small files of weights at random, for as long as there is time, and read them.

    python benchmarks/fuzz.py --minutes 10

A row of benchmarks/results/fuzz.csv is a thousand changed files of one kind, made from a seed of its own; the script goes
on with the seed after the last one. What others wrote may be refused, read as it was, or give other numbers where the
format has no checksum; what `recipes.save` wrote must be refused or be what it was. No file may raise anything but
`UnsafeFileError`, crash the process, take two seconds or 100 MB, or give more than twice its own size. Each row is a process
of its own, so that a crash is a row, too. Exits with 1 if there was one.
"""

import argparse
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import numpy as np
from rows import RESULTS, append, facts, read

import recipes
from recipes.weights import read_state_dict
from recipes.weights.keras_archive import CONFIG, check_archive
from recipes.weights.keras_file import open_members
from recipes.weights.manifest import check_folder
from tests import hostile_files, hostile_runner, onnx_files, torch_files

PATH = RESULTS / "fuzz.csv"
FILES, SECONDS = 1000, 2.0
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def change(whole, other, random):
    """Return `whole`, bytes, after one to three random changes; `other` is a file of the same kind to take parts from."""
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place, length = random.randrange(len(data) or 1), random.choice((1, 1, 2, 4, 8, 30))
        match random.randrange(8):
            case 0 | 1:
                data[place : place + 1] = bytes([(data[place] if data else 0) ^ 1 << random.randrange(8)])
            case 2:
                data[place : place + length] = random.randbytes(length)
            case 3:
                size = random.choice(("<B", "<H", "<I", "<Q"))
                number = struct.pack(size, random.choice(NUMBERS) % 256 ** struct.calcsize(size))
                data[place : place + len(number)] = number
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = data[place : place + length] or random.randbytes(length)
            case 6:
                start = random.randrange(len(other))
                data[place : place + length] = other[start : start + length]
            case 7:
                del data[random.randrange(len(data) // 2, len(data)) if len(data) > 1 else 0 :]
    return bytes(data)


def tensors(seed):
    draw = np.random.default_rng(seed)
    names = ("conv/kernel", "conv/bias", "logits/kernel", "logits/bias")
    return {
        name: draw.normal(size=shape).astype("float32")
        for name, shape in zip(names, ((3, 2), (2,), (2, 4), (4,)), strict=True)
    }


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"{name.split('/')[0]}/{name}", data=array)


def write_index(path, arrays):
    for i, (name, array) in enumerate(arrays.items()):
        hostile_files.write_safetensors(path.parent / f"{i}.safetensors", {name: array})
    path.write_text(json.dumps({"weight_map": {name: f"{i}.safetensors" for i, name in enumerate(arrays)}}))


WRITERS = {
    "safetensors": hostile_files.write_safetensors,
    "pth": torch_files.write_state_dict,
    "pth before 1.6": lambda path, arrays: torch_files.write_state_dict(path, arrays, legacy=True),
    "onnx": onnx_files.write_onnx,
    "h5": write_h5,
    "index.json": write_index,
}
OURS = ("weights.h5", "recipe.json", "manifest.json", "keras")


def members(path):
    with open_members(path) as arrays:
        return {name: np.asarray(array[()]) for name, array in arrays.items()}


def equal(found, wanted):
    return found.keys() == wanted.keys() and all(
        a.dtype == wanted[name].dtype and a.shape == wanted[name].shape and a.tobytes() == wanted[name].tobytes()
        for name, a in found.items()
    )


def open_one(kind, path, wanted):
    """Read a changed file; return whether it is what it was, and raise what reading it raises."""
    if kind in WRITERS:
        found = read_state_dict(path)
        if sum(array.nbytes for array in found.values()) > 2 * path.stat().st_size + 4096 and kind != "index.json":
            raise MemoryError("it gives more than it has")
        return equal(found, wanted)
    if kind == "keras":  # what Keras reads of a file that we let it have
        data = check_archive(path)
        with zipfile.ZipFile(path) as archive:
            return (archive.read(CONFIG), data) == wanted
    return check_folder(path.parent) == wanted[0] and equal(members(path.parent / "model.weights.h5"), wanted[1])


def prepare(kind, folder):
    """Write the honest files of a kind; return the path of the one to change, its bytes, another's and what it holds."""
    if kind in WRITERS:
        paths = [folder / str(i) / ("model.safetensors.index.json" if kind == "index.json" else "file") for i in range(2)]
        for i, path in enumerate(paths):
            path.parent.mkdir()
            WRITERS[kind](path, tensors(i))
        return paths[0], paths[0].read_bytes(), paths[1].read_bytes(), read_state_dict(paths[0])
    names = {"weights.h5": "model.weights.h5", "keras": None}
    shutil.copytree(ROOT_FILES.folder, folder / "net")
    if kind == "keras":
        path = folder / "net.keras"
        shutil.copy(ROOT_FILES.archive, path)
        wanted = ROOT_FILES.members[CONFIG], ROOT_FILES.members["model.weights.h5"]
    else:
        path = folder / "net" / names.get(kind, kind)
        wanted = check_folder(folder / "net"), members(folder / "net" / "model.weights.h5")
    return path, path.read_bytes(), path.read_bytes(), wanted


def run(kind, seed, folder):
    """Change and read `FILES` files; return the counts of what became of them."""
    path, whole, other, wanted = prepare(kind, folder)
    draw = random.Random(f"{kind} {seed}")
    counts = {"refused": 0, "same": 0, "other_numbers": 0, "wrong": 0, "slowest": 0.0, "what": ""}
    hostile_runner.limit_memory()
    for _ in range(FILES):
        data = change(whole, other, draw)
        path.write_bytes(data)
        start = time.process_time()
        try:
            same = open_one(kind, path, wanted)
            fine = same or kind in WRITERS
            counts["same" if same else "other_numbers" if fine else "wrong"] += 1
        except recipes.UnsafeFileError:
            counts["refused"] += 1
        except BaseException as error:
            counts["wrong"] += 1
            counts["what"] = (
                f"{type(error).__name__}: {str(error)[:80]} at {traceback.extract_tb(error.__traceback__)[-1].name}"
            )
        counts["slowest"] = max(counts["slowest"], round(time.process_time() - start, 4))
    if counts["slowest"] > SECONDS:
        counts["wrong"] += 1
        counts["what"] += " too slow"
    return counts


def in_a_child(kind, seed):
    """Run in a process of its own; a crash of it is a row as well."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
            warnings.simplefilter("ignore")
            try:
                report.write_text(json.dumps(run(kind, seed, Path(folder))))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0 and report.exists():
            return json.loads(report.read_text())
    wrong = {"refused": "", "same": "", "other_numbers": "", "wrong": 1, "slowest": ""}
    return {**wrong, "what": f"the process ended with status {status}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    seed = 1 + max([int(row["seed"]) for row in read(PATH)], default=-1)
    while time.monotonic() < end:
        for kind in (*WRITERS, *OURS):
            row = {"kind": kind, "seed": seed, "files": FILES, **in_a_child(kind, seed)}
            print({key: value for key, value in append(PATH, {**row, **facts()}).items() if key not in facts()}, flush=True)
        seed += 1
    wrong = sum(int(row["wrong"]) for row in read(PATH))
    print(f"{sum(int(row['files']) for row in read(PATH))} files, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        ROOT_FILES = hostile_files.Good(Path(place))
        main()
