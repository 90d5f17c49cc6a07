"""Every mechanism that exactness rests on has tests that fail without it: the mutations, and who kills them."""

from __future__ import annotations

import pytest

from tests.exactness.mutants import MUTANTS
from tests.exactness.mutations import KILLERS, killed

pytestmark = [pytest.mark.mutation, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def killed_by() -> dict[str, set[str]]:
    return killed()


def test_every_mutation_has_killers() -> None:
    assert KILLERS.keys() == MUTANTS.keys()


@pytest.mark.parametrize("mutation", MUTANTS)
def test_is_killed(mutation: str, killed_by: dict[str, set[str]]) -> None:
    """By every test that is named for it; by one at least where the mutation is a matter of chance."""
    if MUTANTS[mutation].is_random:
        assert killed_by[mutation]
    else:
        assert killed_by[mutation] == set(KILLERS[mutation])
