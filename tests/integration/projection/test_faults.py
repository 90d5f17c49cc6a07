"""A fault that meets every change is the shard's error: nothing is quarantined, and all goes on afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from django.db import DatabaseError, connection

from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.projection.neighbours import Neighbours
from tests.oracle import assert_exact, flush_all, stored
from tests.sessions import execute, locked, query, role
from workflows_tasks.capture.tables import tables
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES, Installation, Shard, WorkspaceRecentWorkflow
from workflows_tasks.projection import backlog
from workflows_tasks.projection.flush import flush

pytestmark = pytest.mark.host_independent

OURS = [CHANGES, *(model._meta.db_table for model in (WorkspaceRecentWorkflow, Shard, Installation))]


def run_table() -> str:
    """The table that has the run's workspace."""
    return f'"{resolved().workspace.model._meta.db_table}"'


@contextmanager
def as_worker(*, reads_runs: bool) -> Iterator[None]:
    """This session is a worker's whose role is no owner of the host's tables."""
    grants = [f'ALL ON "{table}"' for table in OURS]
    read = [f'"{table.name}"' for table in tables(resolved())]
    grants += [f"SELECT ON {table}" for table in read if reads_runs or table != run_table()]
    with role(*grants) as name:
        execute(f"SET ROLE {name}")
        try:
            yield
        finally:
            execute("RESET ROLE")


@contextmanager
def column_missing() -> Iterator[None]:
    """As during a deploy that is half done."""
    field = resolved().used_at
    table = f'"{field.model._meta.db_table}"'
    execute(f'ALTER TABLE {table} RENAME COLUMN "{field.column}" TO renamed')
    try:
        yield
    finally:
        execute(f'ALTER TABLE {table} RENAME COLUMN renamed TO "{field.column}"')


@contextmanager
def grant_lost() -> Iterator[None]:
    with as_worker(reads_runs=False):
        yield


@contextmanager
def runs_hidden_by_a_policy() -> Iterator[None]:
    """Row-level security lets the worker see no run. It must be an error, for it looks like their deletion."""
    execute(f"ALTER TABLE {run_table()} ENABLE ROW LEVEL SECURITY")
    try:
        with as_worker(reads_runs=True):
            yield
    finally:
        execute(f"ALTER TABLE {run_table()} DISABLE ROW LEVEL SECURITY")


@contextmanager
def read_only() -> Iterator[None]:
    """As after a failover, while this session is still at the old server."""
    execute("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        execute("SET default_transaction_read_only = off")


@pytest.mark.parametrize("fault", [column_missing, grant_lost, runs_hidden_by_a_policy, read_only])
def test_it_quarantines_nothing_and_all_goes_on_afterwards(
    live: Host, fault: Callable[[], AbstractContextManager[None]]
) -> None:
    near = Neighbours(live)
    older, newest = near.run(1), near.run(2)
    for workspace in (1, 2):
        near.run(3, workspace)
    flush_all()
    before = set(stored())
    newest.delete()
    near.run(4, 1, workflow=near.another)
    ((waiting,),) = query(f"SELECT count(*) FROM {CHANGES}")
    with fault():
        for _ in range(2):
            with pytest.raises(DatabaseError):
                flush(near.shard)
        assert connection.get_autocommit()
    assert set(stored()) == before
    assert query(f"SELECT count(*) FROM {CHANGES}") == [(waiting,)]
    assert backlog.quarantined(9) == []
    failing = Shard.objects.get(number=near.shard)
    if fault is not read_only:  # nobody can note anything there
        assert failing.error
        assert failing.failing_since is not None
        assert failing.counters["failures"] == 2
    flush_all()
    assert_exact(live)
    recovered = Shard.objects.get(number=near.shard)
    assert (recovered.error, recovered.failing_since) == ("", None)
    assert older.pk in {row.run for row in stored()}


def test_a_row_that_somebody_else_has_locked_is_no_refusal(live: Host, configure: Configure) -> None:
    """Others of its shard would go through, and it would be in quarantine for a while without any need."""
    configure(FLUSH_TIME_LIMIT_S=1.2)
    near = Neighbours(live)
    run = near.run(1)
    flush_all()
    live.save_again(run)
    near.run(3, 1)
    of_table = f'SELECT FROM "{WorkspaceRecentWorkflow._meta.db_table}" FOR UPDATE'
    with locked(of_table), pytest.raises(DatabaseError):
        flush(near.shard)
    assert backlog.quarantined(9) == []
    flush_all()
    assert_exact(live)
