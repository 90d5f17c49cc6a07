"""The demo's oracle and its home page, on the tests' own database."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from backfill.models import Run
from demo import oracle
from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
from demo.home import condition
from demo.measure import Freshness
from tests.conftest import Configure
from tests.waiting import until
from workflows_tasks import inbox, projection
from workflows_tasks.models import WorkspaceRecentWorkflow


@pytest.fixture
def workspace(db: None) -> Workspace:
    cache.clear()
    # As a backfill of a platform without a run leaves it.
    Run.objects.create(status="succeeded", planned_at=timezone.now(), chunk_size=1, parallel=1, width=1)
    created: Workspace = Workspace.objects.create(name="Alder Labs")
    return created


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with five workflows, two runs of each by two users, in the table."""
    for position in range(5):
        workflow = PublishedRun.objects.create(title=f"Workflow {position}")
        version = PublishedRunVersion.objects.create(published_run=workflow)
        for user in ("ada-1", "alan-1"):
            SavedRun.objects.create(workspace=workspace, uid=user, parent_version=version)
    projection.fill()
    return workspace


def _one_row() -> WorkspaceRecentWorkflow:
    row: WorkspaceRecentWorkflow = WorkspaceRecentWorkflow.objects.earliest("uid", "published_run")
    return row


def _backdate() -> None:
    row = _one_row()
    row.last_used_at -= timedelta(microseconds=1)
    row.save()


def _name_another_run() -> None:
    row = _one_row()
    row.last_run_id -= 1
    row.save()


def _add_a_user_who_ran_nothing() -> None:
    row = _one_row()
    row.pk, row.uid = None, "nobody"
    row.save()


def test_the_oracle_agrees_with_a_table_that_is_right(filled: Workspace) -> None:
    assert oracle.differences() == []
    assert oracle.expected_rows() == WorkspaceRecentWorkflow.objects.count() == 15


@pytest.mark.parametrize(
    ("corrupt", "only_in"),
    [
        (_backdate, {"history", "table"}),
        (_name_another_run, {"history", "table"}),
        (_add_a_user_who_ran_nothing, {"table"}),
        (lambda: _one_row().delete(), {"history"}),
        (lambda: SavedRun.objects.update(surface=1), {"table"}),
    ],
    ids=["backdated", "another run", "extra", "missing", "all hidden"],
)
def test_the_oracle_notices_what_is_wrong(filled: Workspace, corrupt: Callable[[], Any], only_in: set[str]) -> None:
    corrupt()
    assert {difference.only_in for difference in oracle.differences()} == only_in


def test_the_home_page_shows_the_four_workflows_used_last(filled: Workspace, client: Client) -> None:
    page = client.get(f"/workspaces/{filled.pk}/").content.decode()
    assert re.findall(r'class="card" .* data-title="Workflow (\d)"', page) == ["4", "3", "2", "1"]
    assert page.count('<li id="item-') == 5


def test_the_home_page_of_one_user(filled: Workspace, client: Client) -> None:
    SavedRun.objects.filter(uid="ada-1", parent_version__published_run__title="Workflow 0").get().save()
    projection.fill()
    page = client.get(f"/workspaces/{filled.pk}/", {"user": "ada-1"}).content.decode()
    assert re.findall(r'class="card" .* data-title="Workflow (\d)"', page) == ["0", "4", "3", "2"]


def test_an_unused_workspace_has_an_empty_state(workspace: Workspace, client: Client) -> None:
    assert b"No workflow used yet" in client.get(f"/workspaces/{workspace.pk}/").content


def test_the_live_part_is_the_same_without_the_page_around_it(filled: Workspace, client: Client) -> None:
    part = client.get(f"/workspaces/{filled.pk}/live/").content.decode()
    assert part.count('class="card"') == 4
    assert "<html" not in part


def test_the_switcher_keeps_a_user_only_where_they_are(filled: Workspace, client: Client) -> None:
    home = f"/workspaces/{filled.pk}/"
    asked = f"/?workspace={filled.pk}&user="
    assert client.get(asked + "ada-1").headers["Location"] == f"{home}?user=ada-1"
    assert client.get(asked + "grace-9").headers["Location"] == home


def test_a_card_leads_to_its_run(filled: Workspace, client: Client) -> None:
    page = client.get(f"/workspaces/{filled.pk}/").content.decode()
    (link, *_) = re.findall(r'href="(/runs/\d+/)"', page)
    assert b"Workflow 4" in client.get(link).content


def test_a_platform_without_workspaces_says_so(db: None, client: Client) -> None:
    """A health check that asks for the page finds it well."""
    cache.clear()
    answer = client.get("/")
    assert answer.status_code == 200
    assert b"No workspace yet" in answer.content


@pytest.mark.parametrize("path", ["/workspaces/987654/", "/runs/987654/", f"/workspaces/{10**30}/", "/nowhere"])
def test_what_is_not_there_is_not_found(path: str, db: None, client: Client) -> None:
    cache.clear()
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("user", ["\0", "\n", "x" * 129])
def test_no_user_has_such_a_name(user: str, filled: Workspace, client: Client) -> None:
    assert client.get(f"/workspaces/{filled.pk}/", {"user": user}).status_code == 404


@pytest.mark.parametrize(
    ("waiting_s", "says"),
    [(10.1, "more than 10 seconds"), (45.0, "more than 30 seconds"), (130.0, "more than 2 minutes"), (9e5, "60 min")],
)
def test_how_late_a_page_is_is_said_in_steps(waiting_s: float, says: str) -> None:
    """A screen reader hears it each time it changes."""
    pipeline = condition.Pipeline(Freshness(pending=1, claims=0, waiting_s=waiting_s, counters={}), {})
    late = condition.Condition.of(pipeline, filling=False)
    assert late.state == "late"
    assert says in late.notice


def test_a_notice_says_when_the_workers_are_behind(
    workspace: Workspace, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b'role="status"></p>' in client.get(f"/workspaces/{workspace.pk}/live/").content
    inbox.add({"1": 0})
    monkeypatch.setattr(condition, "LATE_S", 0.0)
    until(lambda: b"seconds behind" in client.get(f"/workspaces/{workspace.pk}/live/").content)


def test_a_notice_says_when_the_inbox_does_not_answer(
    workspace: Workspace, client: Client, configure: Configure
) -> None:
    configure(REDIS_URL="redis://127.0.0.1:1/0")
    assert b"cannot be updated at the moment" in client.get(f"/workspaces/{workspace.pk}/").content


def test_a_workspace_whose_history_is_not_in_the_table_yet_is_not_called_empty(
    filled: Workspace, client: Client
) -> None:
    Run.objects.all().delete()
    page = client.get(f"/workspaces/{filled.pk}/").content
    assert b"Older workflows are not all in yet" in page
    WorkspaceRecentWorkflow.objects.all().delete()
    page = client.get(f"/workspaces/{filled.pk}/").content
    assert b"History is on its way" in page
    assert b"No workflow used yet" not in page


def test_a_live_part_that_did_not_change_is_not_sent_again(filled: Workspace, client: Client) -> None:
    live = f"/workspaces/{filled.pk}/live/"
    known = {"If-None-Match": client.get(live).headers["ETag"]}
    assert client.get(live, headers=known).status_code == 304
    WorkspaceRecentWorkflow.objects.filter(uid="").latest("last_used_at").delete()
    assert client.get(live, headers=known).status_code == 200


def test_a_photo_is_drawn_for_a_workflow_that_has_one(client: Client) -> None:
    photo = client.get("/photos/12.svg")
    assert photo.headers["Content-Type"] == "image/svg+xml"
    assert "max-age=86400" in photo.headers["Cache-Control"]
    assert len(photo.content) < 1_000
