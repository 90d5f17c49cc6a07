"""A read costs its own rows, whatever the table holds: asserted on PostgreSQL's plan."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from workflows_tasks import announce, recent_workflows


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
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE) workflows_tasks_workspacerecentworkflow")
        cursor.execute("SELECT count(*) FROM workflows_tasks_workspacerecentworkflow")
        assert cursor.fetchone()[0] > 4_000
    live.make_run(workspace=workspaces[0], workflow=live.make_workflow(), user=users[0], used_at=moment(-1))
    return workspaces[0], users[0]


def test_a_read_is_one_index_only_scan_of_the_rows_it_returns(crowd: tuple[Any, Any]) -> None:
    workspace, user = crowd
    for of_user, limit in itertools.product((None, user), (4, 20)):
        rows = recent_workflows(workspace, of_user, limit)
        assert len(rows) == limit
        (plan,) = json.loads(rows.explain(format="json", analyze=True, buffers=True))
        limited, scan = nodes(plan["Plan"])
        assert (limited["Node Type"], scan["Node Type"]) == ("Limit", "Index Only Scan")
        assert scan["Index Name"] == "recent_workflow_read"
        assert scan["Actual Rows"] == limit
        assert scan.get("Rows Removed by Filter", 0) == 0
        assert scan.get("Rows Removed by Index Recheck", 0) == 0
        assert scan["Heap Fetches"] == 0
        assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= 3 + limit
