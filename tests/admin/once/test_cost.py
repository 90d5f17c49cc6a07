"""What the admin's list asks of a large table: indexes answer it, in bounded numbers of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.admin.conftest import LogIn, listed
from tests.hosts.adapter import Host
from tests.vacuum import vacuum
from workflows_tasks import admin as ours
from workflows_tasks.models import WorkspaceRecentWorkflow

TABLE = WorkspaceRecentWorkflow._meta.db_table
ROWS = 60_000

MANY = f"""
    INSERT INTO {TABLE} (workspace_id, uid, published_run_id, last_used_at, last_run_id)
    SELECT n % 600, 'user-' || n % 50, n / 150, now() - (n || ' seconds')::interval, n
    FROM generate_series(1, {ROWS}) AS n
"""


@pytest.fixture
def large(live: Host) -> Host:
    with connection.cursor() as cursor:
        cursor.execute(MANY)
    vacuum(WorkspaceRecentWorkflow)
    return live


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def explained(statement: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement.replace("%", "%%"), [])
        (plan,) = cursor.fetchone()[0]
    return list(nodes(plan["Plan"]))


def read(node: dict[str, Any]) -> float:
    """Rows that a scan of the table looks at."""
    return float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


def test_pages_of_the_list(large: Host, log_in: LogIn, page: str) -> None:
    client = log_in("view")
    for keys, rows in (
        ({}, 50),
        ({"p": ours.MOST_COUNTED // 50}, 50),  # the last page of what is listed
        ({"workspace": 17}, 50),
        ({"workspace": 17, "user": "user-17"}, 50),
        ({"workspace": 17, "workflow": 20}, 1),
        ({"workflow": 20}, 50),
        ({"run": 4711}, 1),
    ):  # fmt: skip
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(f"{page}?{urlencode(keys)}")
        assert len(listed(answer)) == rows, keys
        asked = [query["sql"] for query in captured if f'FROM "{TABLE}"' in query["sql"]]
        assert len(asked) <= 3
        for statement in asked:
            assert "COUNT(" not in statement or "LIMIT" in statement
            scans = [node for node in explained(statement) if node.get("Relation Name") == TABLE]
            assert scans
            assert "Seq Scan" not in {node["Node Type"] for node in scans}, statement
            assert sum(map(read, scans)) <= ours.MOST_COUNTED + 1, statement  # a sort by groups looks one row ahead
    past = client.get(f"{page}?p={ours.MOST_COUNTED // 50 + 1}")
    assert past.status_code == 302, "nobody can have the table skip through millions of rows"


def test_choosing_all_rows_reads_only_as_many_as_an_action_takes(large: Host, log_in: LogIn, page: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        log_in("change").post(page, {"action": "announce", "_selected_action": [1], "select_across": 1})
    asked = [query["sql"] for query in captured if f'"{TABLE}"."uid", ' in query["sql"]]
    assert asked
    assert f"LIMIT {ours.MOST_CHOSEN + 1}" in asked[-1]
