"""A read costs its own rows and the workflows of a day, whatever table and history hold: by PostgreSQL's plan."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from tests.vacuum import vacuum
from workflows_tasks import conf, recent_workflows
from workflows_tasks.host import host
from workflows_tasks.keys import shard_of
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow

A_DAY = 24 * 60
OF_A_DAY = 8
"""Workflows that were used on each day."""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


WORKFLOWS = 400


@pytest.fixture
def crowd(live: Host) -> tuple[Any, Any]:
    """A table of some thousand rows over many days; returns a workspace and a user that have many of them."""
    workspaces, users = [live.make_workspace() for _ in range(3)], [live.make_user() for _ in range(2)]
    paths = [live.leading_to(live.make_workflow()) for _ in range(WORKFLOWS)]
    with connection.cursor() as cursor:
        cursor.execute(f'DELETE FROM "{CHANGES}"')  # of versions that had no run yet
    owners = list(itertools.product(workspaces, users))
    given = [{live.workspace_field: w, live.user_field: u, **live.shown} for w, u in owners]
    keys = live.insert_runs([{**owner, live.used_at_field: moment(0), **path} for path in paths for owner in given])
    for number in range(WORKFLOWS):  # some hosts have their own idea of when a run is inserted
        used_at = moment(number // OF_A_DAY * A_DAY + number % OF_A_DAY)
        of_path = keys[number * len(owners) : (number + 1) * len(owners)]
        live.run_model._base_manager.filter(pk__in=of_path).update(**{live.used_at_field: used_at})
    flush_all()
    vacuum(WorkspaceRecentWorkflow, live.run_model)
    assert WorkspaceRecentWorkflow.objects.count() == 3 * 3 * WORKFLOWS
    return workspaces[0], users[0]


def test_a_read_is_one_scan_of_an_index_as_far_as_the_page_goes(crowd: tuple[Any, Any]) -> None:
    workspace, user = crowd
    for of_user, limit in itertools.product((None, user), (4, 20)):
        rows = recent_workflows(workspace, of_user, limit)
        with CaptureQueriesContext(connection) as captured:
            assert len(rows) == len(rows.all()) == limit
        ready, compiled = captured
        assert ready["sql"] != compiled["sql"]
        for statement in (ready["sql"], compiled["sql"]):
            assert_reads_no_more(explained(statement), limit)


def explained(statement: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        plan: dict[str, Any] = cursor.fetchone()[0][0]["Plan"]
        return plan


def assert_reads_no_more(plan: dict[str, Any], limit: int) -> None:
    limited, in_order, scan = nodes(plan)
    kinds = (limited["Node Type"], in_order["Node Type"], scan["Node Type"])
    assert kinds == ("Limit", "Incremental Sort", "Index Scan")
    assert scan["Index Name"] == "recent_workflow_read"
    assert scan["Actual Rows"] <= limit + 2 * OF_A_DAY, "the page, the rest of its last day, and the first of the next"
    assert scan.get("Rows Removed by Filter", 0) == 0
    # Each row may be on a page of its own.
    assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= 6 + limit + 2 * OF_A_DAY


def test_a_fresh_read_looks_at_its_own_runs_only(live: Host, request: pytest.FixtureRequest) -> None:
    """No scan of all runs, of the table, or of the change log: with nothing that waits, with runs of other workspaces
    of the shard, with ten runs of its own, and with rows that are not true.

    A session plans what is inside the function once: here while the log is known to be empty.
    """
    vacuum(WorkspaceRecentWorkflow, live.run_model)
    assert not list(recent_workflows(live.make_workspace(), fresh=True))
    workspace, user = request.getfixturevalue("crowd")
    vacuum(live.run_model, WorkspaceRecentWorkflow, *(hop.related_model for hop in host().path))  # or autovacuum does
    with connection.cursor() as cursor:
        cursor.execute(f'VACUUM ANALYZE "{CHANGES}"')
    pages = [partial(recent_workflows, workspace, of_user, fresh=True) for of_user in (None, user)]
    at_rest = [rows_read(page) for page in pages]
    _write_in_the_same_shard(live, workspace)
    assert [rows_read(page) for page in pages] == at_rest
    for pending in (0, 10):
        for _ in range(pending):
            live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user)
        for read in map(rows_read, pages):
            assert 4 <= read[TABLE] <= 4 * OF_A_DAY + 4 * pending
            assert 4 <= read[live.run_model._meta.db_table] <= 4 * OF_A_DAY + 4 * pending
            assert pending <= read[CHANGES] <= 4 * pending
    flush_all()
    for row in recent_workflows(workspace, user, 2):
        live.hide(live.run_model._base_manager.get(pk=row.last_run_id))
    for read in map(rows_read, pages):
        assert 4 <= read[TABLE] <= 4 * OF_A_DAY + 4 * 10, "searched: those before the page's end that are not true"


TABLE = WorkspaceRecentWorkflow._meta.db_table


def _write_in_the_same_shard(live: Host, workspace: Any) -> None:
    for other in [live.make_workspace() for _ in range(10)]:
        live.make_run(workspace=other, workflow=live.make_workflow(), user=live.make_user())
    shard = shard_of(str(live.workspace_key(workspace)), conf.settings().shards)
    with connection.cursor() as cursor:
        cursor.execute(f'DELETE FROM "{CHANGES}" WHERE run IS NULL')  # of versions that had no run yet
        cursor.execute(f'UPDATE "{CHANGES}" SET shard = %s', [shard])


def rows_read(page: Callable[[], Iterable[Any]]) -> Counter[str]:
    """Rows fetched by an index from each table, inside a function too; none is read from one end to the other."""
    with transaction.atomic():
        before = _scans_and_rows()
        assert len(list(page())) == 4
        counted = _scans_and_rows()
    counted.subtract(before)
    assert not {name for (name, what), count in counted.items() if what == "scans" and count}
    return Counter({name: count for (name, what), count in counted.items() if what == "rows" and count})


def _scans_and_rows() -> Counter[tuple[str, str]]:
    """What this session has not told the server's statistics yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, seq_scan, coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables")
        found = cursor.fetchall()
    scans = {(name, "scans"): scans for name, scans, _ in found}
    return Counter({**scans, **{(name, "rows"): fetched for name, _, fetched in found}})
