"""Whoever writes several rows writes them in key order, so that no two writers deadlock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.concurrency.given import Given
from tests.concurrency.stepping import TABLE, Actor
from tests.hosts.adapter import moment
from tests.sessions import locked
from workflows_tasks.models import WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent

LOCK_ROW = f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE"
FREE_ROWS = f"SELECT id FROM {TABLE} ORDER BY workspace_id, uid, published_run_id FOR UPDATE SKIP LOCKED"


def free_rows() -> set[int]:
    """Rows that nobody holds."""
    with connection.cursor() as cursor:
        cursor.execute(FREE_ROWS)
        return {row for (row,) in cursor.fetchall()}


def assert_in_order(write: Callable[[], Actor[Any]]) -> None:
    """Somebody holds the row in the middle: whoever writes all rows has those before it by then, and none after it."""
    rows = list(
        WorkspaceRecentWorkflow.objects.order_by("workspace_id", "uid", "published_run_id").values_list("pk", flat=True)
    )
    assert len(rows) >= 3
    middle = len(rows) // 2
    with locked(LOCK_ROW, rows[middle]):
        writing = write()
        assert writing.waits
        assert free_rows() == set(rows[middle + 1 :])
    writing.finish()


@pytest.fixture
def runs(given: Given) -> list[Any]:
    """Each of a user of its own, so that there is a row of each."""
    made = [given.run(minute, user=given.host.make_user()) for minute in range(4)]
    given.settle()
    return made


def test_advances(given: Given, runs: list[Any]) -> None:
    for run in reversed(runs):
        given.use(run, 20)
    assert_in_order(given.flush)
    given.settle()


def test_advances_beside_a_recompute(given: Given, runs: list[Any]) -> None:
    """Only the last row is recomputed."""
    last = WorkspaceRecentWorkflow.objects.order_by("uid").values_list("last_run", flat=True).last()
    for run in reversed(runs):
        given.use(run, -20 if run.pk == last else 20)
    assert_in_order(given.flush)
    given.settle()


def test_recomputes(given: Given, runs: list[Any]) -> None:
    for run in reversed(runs):
        given.use(run, -20)
    assert_in_order(given.flush)
    given.settle()


@pytest.mark.parametrize("first", [20, -20])
def test_advances_and_recomputes(given: Given, runs: list[Any], first: int) -> None:
    """By turns, in one order."""
    by_key = WorkspaceRecentWorkflow.objects.exclude(uid="").order_by("uid").values_list("last_run", flat=True)
    by_pk = {run.pk: run for run in runs}
    for number, pk in enumerate(by_key):
        given.use(by_pk[pk], first if number % 2 else -first)
    assert_in_order(given.flush)
    given.settle()


def test_a_fill(given: Given, runs: list[Any]) -> None:
    """All of its rows are older than what there is."""
    WorkspaceRecentWorkflow.objects.update(last_used_at=moment(-100))
    assert_in_order(given.fill)
    given.settle()
