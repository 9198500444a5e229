"""Every generative family and model passes every check of `tests/harness/generative.py`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.generative_cases import GENERATIVE, GENERATIVE_FAMILIES
from tests.harness import generative, recipes

FIRST = {case.builder: case for case in reversed(GENERATIVE)}
PRESETS = [(family, variant) for family in GENERATIVE_FAMILIES for variant in family.presets]


def _checks():
    for case in GENERATIVE:
        first = FIRST[case.builder] is case
        for check in [*generative.OF_ROW, *(generative.OF_FIRST_ROW if first else [])]:
            left_out = (
                check.__name__ in case.without
                or (not case.samples and check in generative.OF_SAMPLES)
                or (case.y is None and check is generative.check_labels)
            )
            if not left_out:
                yield pytest.param(case, check, marks=_marks(case, check, first))


def _marks(case, check, first):
    if check in generative.OF_LAYERS and (case.layers_of or check is generative.check_gpu and not first):
        return [pytest.mark.thorough]
    on_jax = check in generative.ON_JAX and (first if case.jax is None else case.jax)
    return [pytest.mark.any_backend] if on_jax else []


def _name(value):
    return value if isinstance(value, str) else getattr(value, "__name__", None) or value.name


@pytest.mark.parametrize("case, check", _checks(), ids=_name)
def test_generative(case, check):
    check(case)


@pytest.mark.parametrize("check", generative.OF_FAMILY, ids=_name)
@pytest.mark.parametrize("family", GENERATIVE_FAMILIES, ids=_name)
def test_family(family, check):
    check(family)


@pytest.mark.parametrize("family, variant", PRESETS, ids=_name)
def test_preset(family, variant):
    recipes.check_preset(family, variant)


@pytest.mark.thorough
def test_two_devices_train_to_what_one_does():
    """In a process of its own: how many devices there are is settled before TensorFlow starts."""
    names = [case.name for case in GENERATIVE if case.mirrored]
    command = [sys.executable, "-m", "tests.harness.mirrored", *names]
    root = pathlib.Path(__file__).resolve().parents[1]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert found.returncode == 0, found.stderr[-3000:]
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["name"] for row in rows] == names
    for row in rows:
        assert "error" not in row, f"{row['name']}: {row['error']}"
        for what in ("weights", "state", "loss"):
            assert row[what] < 1e-4, f"{row['name']}: two devices end with other {what}: {row}"
