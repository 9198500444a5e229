"""`recipes.fit` on several devices ends where it ends on one; each backend in a process of its own, as devices want it."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.any_backend
ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_several_devices_end_where_one_does():
    """Four of JAX: each with a part of the batch, then two by two with parts of the matrices too; two of TensorFlow."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, ROOT / "tests" / "devices.py", keras.backend.backend()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    ends = {name: tuple(map(float, numbers)) for name, *numbers in map(str.split, lines) if name in NAMES}
    jax = keras.backend.backend() == "jax"
    assert set(ends) == ({"data", "model"} if jax else {"mirrored"})
    for moved, apart, losses in ends.values():
        assert moved > 1e-2 and apart < 1e-6 and losses < 1e-5
    if jax:
        assert any("batch_size must be a multiple of 4" in line for line in lines)
        assert any(line.endswith("qkv/kernel (16, 48) (16, 24)") for line in lines)
        assert any(line.endswith("output/kernel (16, 16) (8, 16)") for line in lines)


NAMES = ("data", "model", "mirrored")
