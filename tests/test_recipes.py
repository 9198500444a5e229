"""Every builder and every model passes every check of `tests/harness/recipes.py`."""

import pytest

import recipes as package
from tests.cases import FAMILIES, RECIPES
from tests.harness import recipes

CHECKS = [(case, check) for case in RECIPES for check in recipes.ANY_BACKEND if check.__name__ not in case.without]
PRESETS = [(family, variant) for family in FAMILIES for variant in family.presets]


def _name(value):
    return value if isinstance(value, str) else getattr(value, "__name__", None) or value.name


@pytest.mark.any_backend
@pytest.mark.parametrize("case, check", CHECKS, ids=_name)
def test_recipe(case, check):
    check(case)


@pytest.mark.any_backend
@pytest.mark.parametrize("check", recipes.FAMILY_ANY_BACKEND, ids=_name)
@pytest.mark.parametrize("family", FAMILIES, ids=_name)
def test_family(family, check):
    check(family)


@pytest.mark.parametrize("check", recipes.FAMILY_TENSORFLOW, ids=_name)
@pytest.mark.parametrize("family", FAMILIES, ids=_name)
def test_family_on_tensorflow(family, check):
    check(family)


@pytest.mark.parametrize("family, variant", PRESETS, ids=_name)
def test_preset(family, variant):
    recipes.check_preset(family, variant)


def test_every_builder_has_a_row():
    builders = {name for name in package.__all__ if f"{name}_space" in package.__all__}
    assert {family.name for family in FAMILIES} == builders
    assert {case.builder.__name__ for case in RECIPES} == builders
