"""Eighty hostile files: each gets what the table says, in a process of its own with little memory and an eye on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import recipes
from recipes.weights import read_state_dict
from recipes.weights.places import check_digest, digest
from tests import hostile_files, onnx_files
from tests import torch_files as t
from tests.hostile_files import REFUSED, ROWS, WARNS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def fresh_keras():
    """Not needed here, and slow for so many short tests."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """What the process says of every file, by the number of its row."""
    command = [sys.executable, "-m", "tests.hostile_runner", str(tmp_path_factory.mktemp("hostile"))]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for line in map(json.loads, done.stdout.splitlines()):
        found.setdefault(line.get("number"), []).append(line)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.title}")
def test_each_file_gets_what_the_table_says(lines, row):
    assert [line for line in lines[row.number] if line["problem"]] == []
    if row.number <= 23:
        trusted = {line["outcome"] for line in lines[row.number] if line["door"] == "load_model(trusted=True)"}
        assert REFUSED in trusted or trusted == {WARNS}


def test_the_table_is_whole_and_what_watches_sees(lines):
    assert [row.number for row in ROWS] == list(range(1, 81))
    assert len({row.title for row in ROWS}) == 80
    assert len(lines[0]) == 10 and all(line["problem"] for line in lines[0])


# ---- bytes changed in small files of others

TENSORS = {"logits/kernel": np.arange(6, dtype="float32").reshape(2, 3), "logits/bias": np.ones(3, "float32")}


def write_h5(path, tensors):
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            file.create_dataset(f"logits/{name}", data=array)
    return path


WRITERS = {
    "safetensors": hostile_files.write_safetensors,
    "onnx": onnx_files.write_onnx,
    "pth": t.write_state_dict,
    "legacy.pth": lambda path, tensors: t.write_state_dict(path, tensors, legacy=True),
    "h5": write_h5,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.filterwarnings("ignore:.*removed the prefix")
def test_changed_bytes_of_a_foreign_file(tmp_path, kind):
    """They may change a number where the file has no checksum; nothing else may happen, and `sha256=` sees each."""
    path = WRITERS[kind](tmp_path / f"honest.{kind}", TENSORS)
    whole, wanted, refused = path.read_bytes(), digest(path), 0
    changed_path = tmp_path / f"changed.{kind}"
    positions = range(0, len(whole), max(1, len(whole) // 150))
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= (0x01, 0x80, 0xFF)[position % 3]
        changed_path.write_bytes(changed)
        with pytest.raises(recipes.UnsafeFileError, match="its sha256 is"):
            check_digest(changed_path, wanted)
        try:
            tensors = read_state_dict(changed_path)
        except recipes.UnsafeFileError:
            refused += 1
            continue
        assert sum(array.nbytes for array in tensors.values()) <= 2 * len(whole)
    assert refused > len(positions) // 10
