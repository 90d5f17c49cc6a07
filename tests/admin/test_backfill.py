"""Backfills in Django's admin: who may do what, and that all of it goes through the runner."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backfill import admin as ours
from backfill import planning, runner
from backfill.models import Chunk, Event, Run
from backfill.states import ChunkStatus, RunStatus
from tests.admin.conftest import LogIn, told
from tests.hosts.adapter import Host


@pytest.fixture
def enqueued(live: Host) -> Run:
    """A backfill of three runs."""
    workspace, workflow = live.make_workspace(), live.make_workflow()
    live.make_runs(3, workspaces=[workspace], workflows=[workflow], users=[live.make_user()])
    return runner.start(actor="somebody")


@pytest.fixture
def running(enqueued: Run) -> Run:
    """The same, planned, and none of it filled."""
    planning.carry_out(enqueued.pk)
    return runner.get(enqueued.pk)


def address(page: str, *args: int) -> str:
    return reverse(f"admin:backfill_run_{page}", args=args)


def ask(client: Client, run: Run, **asked: Any) -> Any:
    return client.post(address("control", run.pk), asked, follow=True)


def test_without_permission_nothing_is_seen_or_done(running: Run, log_in: LogIn) -> None:
    client = log_in()
    for page in (address("changelist"), address("start"), *(address(p, running.pk) for p in ("change", "progress"))):
        assert client.get(page).status_code == 403
    assert ask(client, running, ask="pause").status_code == 403
    assert client.post(address("start")).status_code == 403
    assert runner.get(running.pk).status == RunStatus.RUNNING
    assert Run.objects.count() == 1


def test_who_may_only_view_cannot_ask_for_anything(running: Run, log_in: LogIn) -> None:
    client = log_in("view", of="run")
    page = client.get(address("change", running.pk))
    assert page.status_code == 200
    assert "<button" not in page.content.decode().partition('id="content-main"')[2]
    listing = client.get(address("changelist"))
    assert b"Start a backfill" not in listing.content
    assert listing.context["action_form"] is None
    assert ask(client, running, ask="pause").status_code == 403
    assert client.get(address("start")).status_code == 403
    assert runner.get(running.pk).status == RunStatus.RUNNING


def test_nothing_is_edited_by_hand(running: Run, log_in: LogIn) -> None:
    client = log_in("view", "add", "change", "delete", of="run")
    assert client.get(address("add")).status_code == 403
    assert client.post(address("delete", running.pk), {"post": "yes"}).status_code == 403
    client.post(address("change", running.pk), {"status": "succeeded", "actor": "nobody"})
    stored = runner.get(running.pk)
    assert (stored.status, stored.actor) == (RunStatus.RUNNING, "somebody")


def test_what_is_asked_for_is_done_and_its_actor_noted(running: Run, log_in: LogIn) -> None:
    client = log_in("change", of="run")
    for asked, status in (
        ({"ask": "pause"}, RunStatus.PAUSED),
        ({"ask": "resume"}, RunStatus.RUNNING),
        ({"parallel": "7"}, RunStatus.RUNNING),
        ({"ask": "cancel"}, RunStatus.CANCELLED),
    ):
        (message,) = told(ask(client, running, **asked))
        assert message == f"Backfill {running.pk}: {asked.get('ask', '7 at a time')}. It is {status} now."
        assert runner.get(running.pk).status == status
    assert runner.get(running.pk).parallel == 7
    noted = Event.objects.filter(run=running, actor="staff-0").values_list("what", flat=True)
    assert list(noted) == ["pause", "resume", "parallel", "cancel"]


def test_the_list_asks_the_same_of_chosen_ones(running: Run, log_in: LogIn) -> None:
    client = log_in("change", of="run")
    other = runner.start(actor="somebody")
    chosen = {"action": "pause", "_selected_action": [running.pk, other.pk]}
    assert len(told(client.post(address("changelist"), chosen, follow=True))) == 2
    assert {runner.get(run.pk).status for run in (running, other)} == {RunStatus.PAUSED}
    assert Event.objects.filter(actor="staff-0", what="pause").count() == 2


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"ask": "resume"}, "only a paused one is resumed"),
        ({"ask": "retry"}, "none of its chunks has failed"),
        ({"parallel": "0"}, "give a whole number from 1 to"),
        ({"parallel": "many"}, "'many' is no number of chunks"),
        ({"ask": "everything"}, "'' is no number of chunks"),
    ],
)
def test_what_cannot_be_is_refused_and_said(asked: dict[str, str], says: str, running: Run, log_in: LogIn) -> None:
    before = Event.objects.count()
    (message,) = told(ask(log_in("change", of="run"), running, **asked))
    assert says in message
    assert runner.get(running.pk).status == RunStatus.RUNNING
    assert Event.objects.count() == before


def test_only_what_is_possible_is_offered(running: Run) -> None:
    def offered() -> set[str]:
        return set(ours.possible(runner.status(running.pk)))

    assert offered() == {"pause", "cancel"}
    Chunk.objects.filter(run=running, kind="fill").update(status=ChunkStatus.FAILED)
    assert offered() == {"pause", "cancel", "retry"}
    runner.pause(running.pk, actor="somebody")
    assert offered() == {"resume", "cancel", "retry"}
    runner.cancel(running.pk, actor="somebody")
    assert offered() == set()


def test_a_backfill_is_started_by_the_form(enqueued: Run, live: Host, log_in: LogIn) -> None:
    client = log_in("view", "add", of="run")
    assert b"Start a backfill" in client.get(address("changelist")).content
    key = str(live.workspace_key(live.make_workspace()))
    up_to = None if "-" in key else key  # a range of keys with dashes is for the command's own tests
    asked = {
        "workspaces": f"-{up_to}" if up_to else "",
        "since": "2026-01-01 00:00:00",
        "chunk_size": "500",
        "parallel": "3",
    }
    client.post(address("start"), asked)
    started = runner.get(Run.objects.latest("id").pk)
    assert (started.first_workspace, started.last_workspace) == (None, up_to)
    assert (started.chunk_size, started.parallel, started.actor) == (500, 3, "staff-0")
    assert started.since is not None
    client.post(address("start"), {})
    assert Run.objects.latest("id").last_workspace is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"workspaces": "nonsense"}, "is no range of workspaces"),
        ({"parallel": "0"}, "parallel is 0; give a whole number"),
        ({"chunk_size": "-1"}, "chunk size is -1; give a whole number"),
        ({"since": "2999-01-01"}, "which is yet to come"),
        ({"since": "yesterday"}, "Enter a valid date/time"),
    ],
)
def test_a_form_that_cannot_be_meant_is_said_why(asked: dict[str, str], says: str, live: Host, log_in: LogIn) -> None:
    page = log_in("add", "view", of="run").post(address("start"), asked)
    assert page.status_code == 200
    assert says in page.content.decode().replace("&#x27;", "'")
    assert not Run.objects.exists()


def test_progress_tells_how_far_it_is_and_what_failed(running: Run, log_in: LogIn) -> None:
    client = log_in("view", of="run")
    shown = client.get(address("progress", running.pk)).content.decode()
    assert "0.0 % of 3 runs, 1 pending" in shown
    assert "measuring" in shown
    assert "planned" in shown
    Chunk.objects.filter(run=running, kind="fill").update(
        status=ChunkStatus.FAILED, error="DataError: <too long>", failed_runs=["17"]
    )
    shown = client.get(address("progress", running.pk)).content.decode()
    assert "DataError: &lt;too long&gt;" in shown
    assert "<td>17</td>" in shown
    assert client.get(address("progress", running.pk + 1)).status_code == 404
    assert client.get(address("change", running.pk + 1)).status_code == 404


def test_the_list_tells_how_far_open_ones_are(running: Run, log_in: LogIn) -> None:
    client = log_in("view", of="run")
    assert b"0.0 %" in client.get(address("changelist")).content
    runner.cancel(running.pk, actor="somebody")
    assert b"0.0 %" not in client.get(address("changelist")).content
