"""A read costs its own rows, whatever the table holds: asserted on PostgreSQL's plan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from tests.vacuum import vacuum
from workflows_tasks import announce, recent_workflows
from workflows_tasks.models import WorkspaceRecentWorkflow


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
def crowd(live: Host) -> tuple[Any, Any]:
    """A table of several thousand rows; returns a workspace and a user that have many of them."""
    workspaces = [live.make_workspace() for _ in range(7)]
    users = [live.make_user() for _ in range(11)]
    keys = live.make_runs(
        6_000, workspaces=workspaces, workflows=[live.make_workflow() for _ in range(60)], users=users
    )
    announce(keys)
    flush_all()
    vacuum(WorkspaceRecentWorkflow)
    assert WorkspaceRecentWorkflow.objects.count() > 4_000
    live.make_run(workspace=workspaces[0], workflow=live.make_workflow(), user=users[0], used_at=moment(-1))
    return workspaces[0], users[0]


def test_a_read_is_one_index_only_scan_of_the_rows_it_returns(crowd: tuple[Any, Any]) -> None:
    workspace, user = crowd
    for of_user, limit in itertools.product((None, user), (4, 20)):
        rows = recent_workflows(workspace, of_user, limit)
        with CaptureQueriesContext(connection) as captured:
            assert len(rows) == len(rows.all()) == limit
        ready, compiled = captured
        assert ready["sql"] != compiled["sql"]
        assert_reads_no_more(explained(ready["sql"]), limit)
        assert_reads_no_more(explained(compiled["sql"]), limit)


def explained(statement: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        plan: dict[str, Any] = cursor.fetchone()[0][0]["Plan"]
        return plan


def assert_reads_no_more(plan: dict[str, Any], limit: int) -> None:
    limited, scan = nodes(plan)
    assert (limited["Node Type"], scan["Node Type"]) == ("Limit", "Index Only Scan")
    assert scan["Index Name"] == "recent_workflow_read"
    assert scan["Actual Rows"] == limit
    assert scan.get("Rows Removed by Filter", 0) == 0
    assert scan.get("Rows Removed by Index Recheck", 0) == 0
    assert scan["Heap Fetches"] == 0
    assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= 3 + limit
