"""A flush is a constant number of statements, however many ids it has."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.conftest import Configure
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact
from workflows_tasks import announce, inbox
from workflows_tasks.flush import flush


def make(live: Host, count: int) -> list[Any]:
    """Runs that nobody announced."""
    return live.make_runs(
        count,
        workspaces=[live.make_workspace() for _ in range(5)],
        workflows=[live.make_workflow() for _ in range(20)],
        users=[live.make_user() for _ in range(3)],
    )


@pytest.fixture(autouse=True)
def _one_shard(configure: Configure) -> None:
    configure(SHARDS=1)


def flushed() -> int:
    """Flush the one shard; returns how many statements that took."""
    with CaptureQueriesContext(connection) as captured:
        flush(0)
    assert inbox.status()[0].pending == 0
    return len(captured)


def test_new_runs(live: Host) -> None:
    keys = make(live, 11_101)
    statements = set()
    for first, size in ((0, 1), (1, 100), (101, 1_000), (1_101, 10_000)):
        assert announce(keys[first : first + size]) == size
        statements.add(flushed())
    assert len(statements) == 1
    assert statements.pop() < 20
    assert_exact(live)


def test_runs_that_leave_their_rows(live: Host) -> None:
    """Each row's run is hidden, so each row must find its next: as many statements for 2 rows as for all."""
    keys = make(live, 1_000)
    announce(keys)
    flushed()
    runs = live.run_model._base_manager
    statements = set()
    for size in (1, 20, 80):
        newest = {row.run for row in assert_exact(live)}
        leaving = sorted(newest, key=str)[:size]
        runs.filter(pk__in=leaving).update(**live.hidden, **{live.used_at_field: moment(-1)})
        announce(leaving)
        statements.add(flushed())
    assert len(statements) == 1
    assert statements.pop() < 40


def test_a_claim_larger_than_a_batch_is_written_in_batches(live: Host, configure: Configure) -> None:
    configure(SHARDS=1, FLUSH_BATCH=100)
    announce(make(live, 350))
    flush(0)
    (shard,) = inbox.status()
    assert (shard.stats["flushes"], shard.claims) == (4, 0)
    assert_exact(live)
