"""Every builder and every model passes every check of `tests/harness/recipes.py`."""

import pytest

import recipes as package
from tests.cases import FAMILIES, RECIPES
from tests.generative_cases import GENERATIVE, GENERATIVE_FAMILIES
from tests.harness import recipes, sequences

FIRST = {case.builder: case for case in reversed(RECIPES)}


def _checks():
    for case in RECIPES:
        first = FIRST[case.builder] is case
        also = [getattr(sequences, name) for name in case.also]
        for check in [*recipes.OF_ROW, *(recipes.OF_FIRST_ROW if first else []), *also]:
            if check.__name__ not in case.without:
                yield pytest.param(case, check, marks=_marks(case, check, first))


def _marks(case, check, first):
    if check in recipes.OF_LAYERS and case.layers_of or check in recipes.OF_PROGRAM and not first:
        return [pytest.mark.thorough]
    on_jax = check in recipes.ON_JAX and (first or check is recipes.check_learns)
    return [pytest.mark.any_backend] if on_jax else []


PRESETS = [(family, variant) for family in FAMILIES for variant in family.presets]


def _name(value):
    return value if isinstance(value, str) else getattr(value, "__name__", None) or value.name


@pytest.mark.parametrize("case, check", _checks(), ids=_name)
def test_recipe(case, check):
    check(case)


@pytest.mark.parametrize("check", recipes.OF_FAMILY, ids=_name)
@pytest.mark.parametrize("family", FAMILIES, ids=_name)
def test_family(family, check):
    check(family)


@pytest.mark.parametrize("family, variant", PRESETS, ids=_name)
def test_preset(family, variant):
    recipes.check_preset(family, variant)


def test_every_builder_has_a_row():
    builders = {name for name in package.__all__ if f"{name}_space" in package.__all__}
    assert {family.name for family in FAMILIES + GENERATIVE_FAMILIES} == builders
    assert {case.builder.__name__ for case in RECIPES + GENERATIVE} == builders
