"""Every layer of `recipes.layers` passes every check of `tests/harness/layers.py`."""

import pytest

import recipes
from tests.cases import LAYERS
from tests.harness import layers


@pytest.mark.any_backend
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
@pytest.mark.parametrize("check", layers.ANY_BACKEND, ids=lambda check: check.__name__)
def test_layer(check, case):
    check(case)


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
@pytest.mark.parametrize("check", layers.TENSORFLOW, ids=lambda check: check.__name__)
def test_layer_on_tensorflow(check, case):
    check(case)


def test_every_layer_has_a_row():
    exported = {getattr(recipes.layers, name) for name in recipes.layers.__all__}
    assert {case.layer for case in LAYERS} == exported
