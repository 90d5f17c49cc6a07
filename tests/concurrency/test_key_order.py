"""Whoever writes several rows writes them in key order, so that no two writers deadlock."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from tests.concurrency.given import Given
from tests.concurrency.stepping import TABLE, Actor, locked
from tests.hosts.adapter import moment
from workflows_tasks import history
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.projection.flush import flush

pytestmark = pytest.mark.host_independent

LOCK_ROW = f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE"
FREE_ROWS = f"SELECT id FROM {TABLE} ORDER BY workspace_id, uid, published_run_id FOR UPDATE SKIP LOCKED"

ROUNDS, FILLERS, USERS, WORKFLOWS = 15, 3, 10, 4


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


@contextmanager
def quick_deadlock_checks() -> Iterator[None]:
    """Within, new connections look for a deadlock after 10 ms in place of a second."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'")
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_fills_and_a_flush_on_the_same_keys(given: Given) -> None:
    """Nobody is ever the victim of a deadlock."""
    users = [given.host.make_user() for _ in range(USERS)]
    workflows = [given.host.make_workflow() for _ in range(WORKFLOWS)]
    runs = [
        run
        for workflow in workflows
        for run in given.host.make_runs(USERS, workspaces=[given.workspace], workflows=[workflow], users=users)
    ]
    given.settle()
    before, minutes, done = deadlocks(), itertools.count(1), threading.Event()

    def keep_filling() -> int:
        fills = 0
        while not done.is_set():
            history.fill(given.range)
            fills += 1
        return fills

    with quick_deadlock_checks():
        fillers = [Actor(keep_filling) for _ in range(FILLERS)]
        chance = random.Random(1)
        for number in range(ROUNDS):
            chosen = chance.sample(runs, len(runs) // 2)
            # One round in three goes back in time, so that rows are recomputed.
            minute = next(minutes) * (-1 if number % 3 == 2 else 1)
            of_host = given.host.run_model._base_manager.filter(pk__in=chosen)
            of_host.update(**{given.host.used_at_field: moment(minute)})
            Actor(lambda: flush(given.shard)).finish()
        done.set()
        assert all(filler.finish() for filler in fillers)
    assert deadlocks() == before
    given.close_chunk()
    given.settle()
