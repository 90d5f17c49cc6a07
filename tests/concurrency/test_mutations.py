"""Every mechanism has a mutation, and every mutation tests that run under it; see ``tests.mutants``."""

from __future__ import annotations

import pytest

from tests.commands import python
from tests.mutants import MUTANTS, UNCAPTURED
from workflows_tasks.capture.tables import tables
from workflows_tasks.host import host

pytestmark = pytest.mark.host_independent


def test_every_table_and_event_has_one() -> None:
    events = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    assert set(UNCAPTURED) == {(table.name, event) for table in tables(host()) for event in events}


def test_every_test_that_is_named_runs_under_its_mutation() -> None:
    files = {f"tests/{test.partition('::')[0]}" for mutant in MUTANTS.values() for test in mutant.tests}
    code, output = python("-m", "pytest", *files, "--collect-only", "-q", "-m", "under")
    assert code == 0, output
    for name, mutant in MUTANTS.items():
        for test in mutant.tests:
            base, bracket, parameters = test.partition("[")
            assert f"tests/{base} under {name}{bracket}{parameters}" in output.splitlines()
