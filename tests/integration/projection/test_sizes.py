"""No statement has a parameter for each of its runs: PostgreSQL takes 65,535 of them, and sets are of any size."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.hosts.adapter import Host
from tests.integration.projection.neighbours import Neighbours
from tests.oracle import assert_exact, flush_all
from workflows_tasks import history, recent_workflows
from workflows_tasks.host import host as resolved
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.projection import changes, searches
from workflows_tasks.rechecks import recheck

pytestmark = pytest.mark.host_independent

RUNS = 250
MOST = 200
"""Parameters. Twenty walks in one statement have some of their own."""


@pytest.fixture
def all_runs(live: Host) -> Any:
    """So many runs of a workspace, each of another workflow, which wait for a flush."""
    near = Neighbours(live)
    workflows = [live.make_workflow() for _ in range(RUNS)]
    live.make_runs(RUNS, workspaces=near.workspaces[:1], workflows=workflows, users=[near.user])
    return live.run_model._base_manager.filter(**{live.workspace_field: near.workspaces[0]})


def recheck_all(host: Host, runs: Any) -> None:
    assert recheck(runs) == RUNS
    flush_all()


def verify_and_repair(host: Host, runs: Any) -> None:
    flush_all()
    WorkspaceRecentWorkflow.objects.all().delete()
    with pytest.raises(SystemExit):  # something differed
        call_command("recent_workflows", "verify", "--repair", stdout=StringIO())


def explain_and_show(host: Host, runs: Any) -> None:
    workspace = getattr(runs.first(), host.workspace_field)
    with pytest.raises(SystemExit):  # something waits
        call_command("recent_workflows", "explain", "--", history.workspace_text(workspace), stdout=StringIO())
    assert len(recent_workflows(workspace, limit=RUNS, fresh=True)) == RUNS
    flush_all()


def recompute(host: Host, runs: Any) -> None:
    flush_all()
    runs.update(**host.hidden)
    flush_all()


def walk(host: Host, runs: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searches, "PASS_RUNS", 0)
        patch.setattr(searches, "RUNS_A_KEY", 0)
        recompute(host, runs)


def look_over(host: Host, runs: Any) -> None:
    flush_all()
    changes.log_everything()
    flush_all()


def fill(host: Host, runs: Any) -> None:
    history.fill(history.EVERYWHERE)
    history.recheck_filled(history.EVERYWHERE)
    flush_all()


@pytest.mark.parametrize("what", [recheck_all, verify_and_repair, explain_and_show, recompute, walk, look_over, fill])
def test_parameters_do_not_grow_with_the_runs(live: Host, all_runs: Any, what: Callable[[Host, Any], None]) -> None:
    most = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal most
        if not sql.startswith("UPDATE"):  # the host's own write, which Django cuts; or one row of ours
            most = max(most, len(params or ()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        what(live, all_runs)
    assert 0 < most < MOST < RUNS
    assert_exact(live)


def test_more_runs_than_a_statement_takes_parameters(live: Host) -> None:
    """None of which is there, so that it is quick."""
    near = Neighbours(live)
    run = near.run(1)
    flush_all()
    absent = resolved().run_key.to_python(live.absent)
    assert recheck([*[absent] * 70_000, run]) == 1
    workspace = history.workspace_text(near.workspaces[0])
    changes.log_runs((workspace, live.absent) for _ in range(70_000))
    flush_all()
    assert_exact(live)
