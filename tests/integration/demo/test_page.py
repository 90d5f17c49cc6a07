"""The demo's home page and its oracle, on the tests' own database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from backfill.models import Backfill
from demo import oracle, views
from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
from demo.executions import STATEMENTS, other_program
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks.models import WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


@pytest.fixture
def workspace(live: Host) -> Workspace:
    # As a backfill of a platform without a run leaves it.
    Backfill.objects.create(status="succeeded", planned_at=timezone.now(), chunk_size=1, concurrency=1)
    created: Workspace = Workspace.objects.create(name="Alder Labs")
    return created


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with five workflows, two runs of each by two users, in the table."""
    for position in range(5):
        version = PublishedRunVersion.objects.create(
            published_run=PublishedRun.objects.create(title=f"Workflow {position}")
        )
        for user in ("ada-1", "alan-1"):
            SavedRun.objects.create(workspace=workspace, uid=user, parent_version=version)
    flush_all()
    return workspace


def test_what_is_not_there_is_not_found(filled: Workspace, client: Client) -> None:
    for run in ("", "x", "987654", str(10**30)):
        assert client.post(f"/?workspace={filled.pk}", {"run": run}).status_code == 404
    for workspace in ("987654", "x", str(10**30)):
        assert client.get("/", {"workspace": workspace}).status_code == 404
        assert client.get("/live/", {"workspace": workspace}).status_code == 404
    for user in ("\0", "\n", "x" * 129):
        assert client.get("/", {"workspace": str(filled.pk), "user": user}).status_code == 404


def test_a_platform_without_workspaces_says_so(live: Host, client: Client) -> None:
    """A health check that asks for the page gets an answer."""
    answer = client.get("/")
    assert answer.status_code == 200
    assert b"There is no workspace yet" in answer.content


def test_a_notice_says_when_flushes_are_behind_except_on_a_fresh_page(
    filled: Workspace, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LATE_S", 0.0)
    old = SavedRun.objects.get(uid="ada-1", parent_version__published_run__title="Workflow 0")
    with other_program() as other:
        own = {"workspace_id": old.workspace_id, "uid": old.uid, "parent_version_id": old.parent_version_id}
        other.execute(STATEMENTS["INSERT"], own)
    assert b"are behind" in client.get("/live/", {"workspace": str(filled.pk)}).content
    assert b"are behind" not in client.get("/live/", {"workspace": str(filled.pk), "user": "ada-1"}).content
    flush_all()
    assert b"are behind" not in client.get("/live/", {"workspace": str(filled.pk)}).content


def test_a_workspace_whose_history_is_not_in_the_table_yet_says_so(filled: Workspace, client: Client) -> None:
    Backfill.objects.all().delete()
    assert b"Older workflows are not all in yet" in client.get("/", {"workspace": str(filled.pk)}).content


def _one_row() -> WorkspaceRecentWorkflow:
    row: WorkspaceRecentWorkflow = WorkspaceRecentWorkflow.objects.earliest("uid", "published_run")
    return row


def _change_row(**changes: Any) -> None:
    WorkspaceRecentWorkflow.objects.filter(pk=_one_row().pk).update(**changes)


def _add_a_user_who_ran_nothing() -> None:
    row = _one_row()
    row.pk, row.uid = None, "nobody"
    row.save()


def test_the_oracle_agrees_with_a_table_that_is_right(filled: Workspace) -> None:
    assert oracle.differences() == []
    assert oracle.expected_rows() == WorkspaceRecentWorkflow.objects.count() == 15


CORRUPTIONS: list[tuple[Callable[[], Any], set[str]]] = [
    (lambda: _change_row(last_used_at=_one_row().last_used_at - timedelta(microseconds=1)), {"history", "table"}),
    (lambda: _change_row(last_run=_one_row().last_run_id - 1), {"history", "table"}),
    (_add_a_user_who_ran_nothing, {"table"}),
    (lambda: _one_row().delete(), {"history"}),
    (lambda: SavedRun.objects.update(surface=1), {"table"}),
]


def test_the_oracle_notices_what_is_wrong(filled: Workspace) -> None:
    for corrupt, only_in in CORRUPTIONS:
        with transaction.atomic():
            corrupt()
            assert {where for where, *_ in oracle.differences()} == only_in
            transaction.set_rollback(True)


def test_an_open_connection_hears_of_its_own_workspace_once_a_flush_is_committed(
    pushing: None, filled: Workspace
) -> None:
    from demo.push.events import events

    other = Workspace.objects.create(name="Birch Labs")
    heard = events(filled.pk)
    assert next(heard) == "data: changed\n\n", "what changed since the page was made"
    for workspace, told in ((other, ":\n\n"), (filled, "data: changed\n\n")):
        SavedRun.objects.create(workspace=workspace, uid="ada-1", parent_version=PublishedRunVersion.objects.first())
        assert next(heard) == ":\n\n", "a save tells nobody"
        flush_all()
        assert next(heard) == told
    heard.close()
