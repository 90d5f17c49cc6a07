"""Thousands of rows lose their runs at once, with a real worker and the settings that a host gets by default.

A workspace of 200,000 runs and 1,000 users, of whose 50 workflows 15 are deleted; or one workflow of 1,000,000 runs and
4,000 users. Another workspace of the same shard is saved meanwhile. The suite does the first at a twentieth of its
size, with a worker killed every three seconds. ``MASS_DELETION=1`` does and times both at full size, with and without
kills.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_celery import CeleryTestNode, CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import is_idle
from tests.sessions import query
from tests.threads import beside
from tests.vacuum import vacuum
from tests.waiting import until
from workflows_tasks import conf, history
from workflows_tasks.keys import shard_of
from workflows_tasks.models import Shard, WorkspaceRecentWorkflow
from workflows_tasks.projection import backlog

IS_FULL = "MASS_DELETION" in os.environ
SCALE = 1.0 if IS_FULL else 0.05

EXACT_WITHIN_S, VISIBLE_WITHIN_S, GIVEN_UP_AFTER_S, KILL_EVERY_S = 15.0, 3.0, 300.0, 3.0
KILLED = ("TimeLimitExceeded", "Hard time limit", "Soft time limit", "exited prematurely")
"""What Celery says of a task that it killed."""

AS_SHIPPED = {
    field.name.upper(): field.default
    for field in dataclasses.fields(conf.Settings)
    if field.name in {"flush_window_s", "tick_period_s", "pause_s"}
}

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(1_200 if IS_FULL else 240)]


@dataclasses.dataclass(frozen=True)
class Case:
    """One workspace, and what of it is deleted."""

    runs: int
    users: int
    workflows: int
    deleted: int


WORKFLOWS = Case(runs=200_000, users=1_000, workflows=50, deleted=15)
MILLION = Case(runs=1_000_000, users=4_000, workflows=1, deleted=1)


@pytest.mark.workers(**AS_SHIPPED)
@pytest.mark.parametrize(
    ("case", "kills"),
    [(case, kills) for case in (WORKFLOWS, MILLION) for kills in (False, True)] if IS_FULL else [(WORKFLOWS, True)],
)
def test_the_table_is_exact_soon(
    case: Case, kills: bool, celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host
) -> None:
    from demo import oracle
    from demo.bots.models import PublishedRun

    worker = celery_setup.worker
    workspace, workflows = load(case)
    assert oracle.differences() == []
    visible_s: list[float] = []
    killed = 0
    with saving(of_same_shard(workspace), visible_s):
        until(lambda: len(visible_s) >= 2, within_s=30)
        PublishedRun.objects.filter(pk__in=workflows[: case.deleted]).delete()
        committed_s = due_s = time.monotonic()
        while waits(workspace):
            assert time.monotonic() - committed_s < GIVEN_UP_AFTER_S
            if kills and time.monotonic() > due_s:
                worker.kill()
                worker.container.start()  # as by a supervisor
                killed, due_s = killed + 1, time.monotonic() + KILL_EVERY_S
            time.sleep(0.01)
        exact_s = time.monotonic() - committed_s
    assert bool(killed) == kills
    until(is_idle, within_s=30)
    slowest_s = max(visible_s)
    print(f"exact after {exact_s:.1f} s with {killed} kills; another workspace visible after {slowest_s:.1f} s at most")  # noqa: T201
    assert oracle.differences() == []
    assert not Shard.objects.exclude(error="").exists()
    assert backlog.quarantined(9) == []
    if not kills:
        assert exact_s < EXACT_WITHIN_S
        assert slowest_s < VISIBLE_WITHIN_S
        assert not [line for line in worker.logs().splitlines() if any(text in line for text in KILLED)]


def load(case: Case) -> tuple[int, list[int]]:
    """The workspace and a hundred small ones, without triggers, and the table filled; returns its key and workflows."""

    from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        workspaces = Workspace.objects.bulk_create([Workspace(name=f"Workspace {n}") for n in range(101)])
        titles = [f"Workflow {n}" for n in range(case.workflows + 20)]
        workflows = PublishedRun.objects.bulk_create([PublishedRun(title=title) for title in titles])
        versions = PublishedRunVersion.objects.bulk_create(
            [PublishedRunVersion(published_run=each) for each in workflows]
        )
        own, others = versions[: case.workflows], versions[case.workflows :]
        insert_runs(workspaces[0], own, runs=int(case.runs * SCALE), users=int(case.users * SCALE))
        for each in workspaces[1:]:
            insert_runs(each, others, runs=int(500 * SCALE), users=10)
    history.fill(history.EVERYWHERE)
    vacuum(SavedRun, WorkspaceRecentWorkflow)
    return workspaces[0].pk, [each.pk for each in workflows]


def insert_runs(workspace: Any, versions: list[Any], *, runs: int, users: int) -> None:
    """Runs of every user of each version in turn, a second apart; the other columns are those of a new run."""

    from demo.bots.models import SavedRun

    pattern = SavedRun.objects.create()
    columns = {
        str(field.column): str(field.column) for field in SavedRun._meta.concrete_fields if not field.primary_key
    }
    columns |= {
        "workspace_id": str(workspace.pk),
        "uid": f"'user-' || mod(n, {users})",
        "parent_version_id": f"(ARRAY{[each.pk for each in versions]})[1 + mod(n / {users}, {len(versions)})]",
        "updated_at": "timestamptz '2026-01-01' + n * interval '1 second'",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO bots_savedrun ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
            f" FROM bots_savedrun CROSS JOIN generate_series(0, {runs - 1}) AS n WHERE id = {pattern.pk}"
        )
    pattern.delete()


def of_same_shard(workspace: int) -> Any:
    """A new workspace of the same shard."""

    from demo.bots.models import Workspace

    while shard(made := Workspace.objects.create(name="Another").pk) != shard(workspace):
        pass
    return made


def shard(workspace: int) -> int:
    return shard_of(str(workspace), conf.settings().shards)


def waits(workspace: int) -> bool:
    """Whether the log has a change of a workspace, or a scope of its shard. By index: it is asked all the time."""
    of_shard = f"SELECT FROM workflows_tasks_change WHERE shard = {shard(workspace)}"
    ((waiting,),) = query(
        f"SELECT EXISTS ({of_shard} AND workspace = '{workspace}') OR EXISTS ({of_shard} AND workspace IS NULL)"
    )
    return bool(waiting)


@contextmanager
def saving(workspace: int, visible_s: list[float]) -> Iterator[None]:
    """Save a run in another workspace again and again, and note how long each takes to be visible."""

    from demo.bots.models import PublishedRunVersion, SavedRun

    ended = Event()

    def save() -> None:
        version = PublishedRunVersion.objects.order_by("pk").last()  # of the small workspaces
        while not ended.wait(0.3):
            run = SavedRun.objects.create(workspace_id=workspace, uid="somebody", parent_version=version)
            committed_s = time.monotonic()
            rows = WorkspaceRecentWorkflow.objects.filter(workspace_id=workspace, last_run=run)
            until(rows.exists, within_s=GIVEN_UP_AFTER_S)
            visible_s.append(time.monotonic() - committed_s)

    with beside() as start:
        thread = start(save)
        try:
            yield
        finally:
            ended.set()
            thread.result()
