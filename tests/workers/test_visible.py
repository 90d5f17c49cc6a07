"""A save becomes visible through a real worker, whatever the host's models."""

from __future__ import annotations

from typing import Any

from pytest_celery import CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, idle, stored
from tests.waiting import until
from workflows_tasks import events, inbox, recent_workflows


def test_a_saved_run_is_a_recent_workflow_a_window_later(celery_setup: CeleryTestSetup, live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    runs: list[Any] = []

    def shown(of_user: Any = None) -> bool:
        rows = recent_workflows(workspace, of_user, limit=9)
        return [row.last_run_id for row in rows] == [run.pk for run in reversed(runs)]

    for _ in range(5):
        runs.append(live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user))
        until(shown)
    runs.pop().delete()
    until(lambda: shown(user))
    until(idle)  # the last flush may have seen by itself that the run is gone, before the one that is sent for it
    assert len(assert_exact(live)) == 8
    assert "flushed shard=" in celery_setup.worker.logs()
    lags = events.histogram(events.merged(shard.stats for shard in inbox.status()), "commit_to_visible")
    assert sum(lags) == 6


def test_several_workspaces_at_once(celery_setup: CeleryTestSetup, live: Host) -> None:
    workspaces, workflows = [live.make_workspace() for _ in range(10)], [live.make_workflow() for _ in range(3)]
    for number in range(60):
        live.make_run(workspace=workspaces[number % 10], workflow=workflows[number % 3], user=live.make_user())
    until(lambda: len(stored()) == 90)
    until(idle)
    assert_exact(live)
