"""What sweep, flush and audit ask of a large table of runs is answered by indexes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.exactness.plans import EXPLAIN, nodes, plans
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks import announce, conf, projection, repair
from workflows_tasks.models import Bookmark

RUNS = 60_000
WORKSPACES = 300

MANY = f"""
    INSERT INTO bots_savedrun
        (workspace_id, uid, parent_version_id, surface, is_api_call, state, created_at, updated_at)
    SELECT (SELECT min(id) FROM bots_workspace) + n % {WORKSPACES}, 'user-' || n % 1000,
           (SELECT min(id) FROM bots_publishedrunversion) + n % 40, 0, false, '{{}}', now(),
           now() - (n || ' minutes')::interval
    FROM generate_series(1, {RUNS}) AS n
"""


@pytest.fixture
def history(live: Host) -> Host:
    """Six weeks of runs, a minute apart, in many workspaces; all of it is in the table."""
    for _ in range(WORKSPACES):
        live.make_workspace()
    for _ in range(40):
        live.leading_to(live.make_workflow())
    with connection.cursor() as cursor:
        cursor.execute(MANY)
        projection.fill()
        cursor.execute("ANALYZE")
    return live


def sequential_scans(act: Callable[[], Any], table: str) -> list[str]:
    """The statements, of those that ``act`` makes, whose plan reads the whole of a table."""
    return [f"{plan.statement}\n{json.dumps(plan.root)}" for plan in plans(act, table) if plan.scans(table)]


@pytest.mark.parametrize("behind", [timedelta(minutes=2), timedelta(hours=12), timedelta(days=365)])
def test_a_sweep_reads_no_table_of_runs_as_a_whole(history: Host, behind: timedelta) -> None:
    """Whether it is up to date, or comes after a night's or a year's outage."""
    Bookmark.objects.create(name=repair.RUNS, position={"used_at": (timezone.now() - behind).isoformat(), "run": None})
    assert not sequential_scans(repair.sweep, "bots_savedrun")


def test_a_sweep_looks_up_one_row_for_each_run_and_grain(history: Host) -> None:
    """Not all rows of the run's page."""
    since = (timezone.now() - timedelta(days=365)).isoformat()
    Bookmark.objects.create(name=repair.RUNS, position={"used_at": since, "run": None})
    pages = [plan for plan in plans(repair.sweep, "bots_savedrun", EXPLAIN) if "page AS" in plan.statement]
    assert len(pages) == RUNS // conf.settings().sweep_page + 1
    for page in pages:
        read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes(page.root)]
        assert max(read) <= conf.settings().sweep_page + 1


def test_a_flush_reads_no_table_of_runs_as_a_whole(history: Host) -> None:
    """Neither for what was saved, nor for what was deleted and must be looked for."""
    runs = history.run_model._base_manager.order_by("-updated_at")
    announce(list(runs.values_list("pk", flat=True)[:1_000]))
    assert not sequential_scans(flush_all, "bots_savedrun")
    runs.filter(pk__in=list(runs.values_list("pk", flat=True)[:20])).delete()
    assert not sequential_scans(flush_all, "bots_savedrun")


def test_a_step_of_the_audit_reads_only_its_workspaces(history: Host, configure: Any) -> None:
    configure(AUDIT_CHUNK=200)
    assert not sequential_scans(repair.audit, "bots_savedrun")
