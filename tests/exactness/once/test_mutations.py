"""Every mechanism that exactness rests on has tests that fail without it: the mutations, and who kills them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exactness.mutants import MUTANTS
from tests.exactness.mutations import KILLERS, killed

pytestmark = [pytest.mark.mutation, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def killed_by() -> dict[str, set[str]]:
    return killed()


def test_every_mutation_has_killers() -> None:
    assert KILLERS.keys() == MUTANTS.keys()


def test_the_design_says_who_kills_each() -> None:
    """Its table is this one, row for row."""
    rows = [
        f"| `{name}` | {mutant.takes_out} | {', '.join(sorted({_function(test) for test in KILLERS[name]}))} |"
        for name, mutant in MUTANTS.items()
    ]
    table = "| mutation | what is taken out | noticed by |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    assert table in (Path(__file__).parents[3] / "docs" / "design.md").read_text()


def _function(test: str) -> str:
    return f"`{test.partition('[')[0].rpartition('::')[2]}`"


@pytest.mark.parametrize("mutation", MUTANTS)
def test_is_killed(mutation: str, killed_by: dict[str, set[str]]) -> None:
    """By every test that is named for it; by one at least where the mutation is a matter of chance."""
    if MUTANTS[mutation].is_random:
        assert killed_by[mutation]
    else:
        assert killed_by[mutation] == set(KILLERS[mutation])
