"""``{mutations}``: what is taken out of the product, and the tests that notice, from ``tests.mutants``."""

from __future__ import annotations

from collections.abc import Iterable

from docs.directives.written import Written
from tests.mutants import MUTANTS, UNCAPTURED


class MutationsReference(Written):
    """A table with a line for each mutation."""

    def markdown(self) -> Iterable[str]:
        yield from ("| mutation | what is taken out | noticed by |", "|---|---|---|")
        for name, mutant in MUTANTS.items():
            if not name.startswith("uncaptured"):
                yield _line(name, mutant.takes_out, mutant.tests)
        yield _line("uncaptured TABLE EVENT", "the trigger of one table for one event", UNCAPTURED.values())


def _line(name: str, takes_out: str, tests: Iterable[str]) -> str:
    """A line with the tests' own names, without their files and parameters."""
    names = dict.fromkeys(test.rpartition("::")[2].partition("[")[0] for test in tests)
    return f"| `{name}` | {takes_out} | {', '.join(f'`{each}`' for each in names)} |"
