"""Comparing table and runs in one snapshot, beside what is not versioned."""

from __future__ import annotations

import pytest

from tests.concurrency.given import Given
from tests.concurrency.stepping import Actor, open_transaction
from tests.sessions import execute
from workflows_tasks import history
from workflows_tasks.comparison.compare import WAITING, compare

pytestmark = pytest.mark.host_independent


def test_a_truncate_while_tables_are_compared(given: Given) -> None:
    """A snapshot from before it would show no runs, and no change that says so."""
    given.run(1)
    given.settle()

    with open_transaction(lambda: execute(f'TRUNCATE "{given.host.run_model._meta.db_table}"')) as commit:
        comparing = Actor(lambda: compare(history.EVERYWHERE)).stands()
        assert comparing.waits
        commit()
        found = comparing.finish()
    assert found
    assert {each.state for each in found} == {WAITING}
    assert given.settle() == []


def test_changes_that_commit_between_its_statements(given: Given) -> None:
    """Table, runs and log are of one moment."""
    run = given.run(1)
    given.settle()

    def compare_twice() -> list[list[str]]:
        with history.snapshot():
            return [[each.state for each in compare(history.EVERYWHERE)] for _ in range(2)]

    comparing = Actor(compare_twice, "compared").stands()
    assert comparing.is_paused
    given.use(run, 2)
    given.run(3, user=given.host.make_user())
    assert comparing.finish() == [[], []]
    assert {each.state for each in compare(history.EVERYWHERE)} == {WAITING}
    given.settle()
    assert compare(history.EVERYWHERE) == []
