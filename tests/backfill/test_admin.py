"""Backfills in Django's admin: who may see, start and control them, and what the pages do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from backfill import control, leases
from backfill.models import Backfill
from tests.backfill.given import History, carried_out, claimed, fill_batch, planned, refused, started
from tests.hosts.adapter import Host

pytestmark = pytest.mark.host_independent

HOME = "/admin/backfill/backfill/"


def client(*permissions: str, name: str = "ada") -> Client:
    """Somebody of the staff, who may do this."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    signed_in = Client()
    signed_in.force_login(user)
    return signed_in


@pytest.fixture
def admin(live: Host) -> Client:
    return client("view_backfill", "change_backfill", "add_backfill")


def text(response: Any) -> str:
    """What a page says, without its tags."""
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def buttons(response: Any) -> set[str]:
    return set(re.findall(r'name="ask" value="(\w+)"', response.content.decode()))


def ask(admin: Client, backfill: Backfill, **asked: Any) -> str:
    """What the page says after something was asked for."""
    return text(admin.post(f"{HOME}{backfill.pk}/control/", asked, follow=True))


def test_the_list(history: History, admin: Client) -> None:
    carried_out(started(history.only(history.light[0])))
    planned()
    page = text(admin.get(HOME))
    key = history.text(history.light[0])
    assert re.search(rf"backfill \d+ \(succeeded\) {key} to {key} 100\.0 % a test", page)
    assert re.search(r"backfill \d+ \(running\) all 0\.0 % a test", page)
    assert "Add backfill" in page
    assert admin.get(f"{HOME}?status=running").status_code == 200


def test_it_is_started_by_a_form(history: History, admin: Client) -> None:
    assert "the first and the last. Empty: all" in text(admin.get(f"{HOME}add/"))
    key = history.text(history.light[1])
    done = admin.post(f"{HOME}add/", {"workspaces": f"{key}-{key}", "chunk_size": "9", "concurrency": "3"}, follow=True)
    backfill = control.get()
    assert (backfill.first_workspace, backfill.concurrency, backfill.actor) == (key, 3, "ada")
    assert f"Backfill {backfill.pk} is enqueued" in text(done)
    for asked, says in (({"concurrency": "0"}, "give a whole number"), ({"workspaces": "a-b"}, "is no range")):
        assert says in text(admin.post(f"{HOME}add/", {"chunk_size": "9", "concurrency": "3", **asked}))
    assert Backfill.objects.count() == 1


def test_everything_can_be_asked_for_by_a_button(
    history: History, admin: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "backfill")
    backfill = planned()
    page = admin.get(f"{HOME}{backfill.pk}/change/")
    assert buttons(page) == {"pause", "cancel"}
    assert "It is paused now" in ask(admin, backfill, ask="pause")
    assert buttons(admin.get(f"{HOME}{backfill.pk}/change/")) == {"resume", "cancel"}
    assert "It is running now" in ask(admin, backfill, ask="resume")
    assert "5 at a time. It is running now" in ask(admin, backfill, concurrency="5")
    assert "oncurrency is 0; give a whole number" in ask(admin, backfill, concurrency="0")
    assert "is no number of chunks" in ask(admin, backfill, concurrency="many")
    assert "only a paused or failed one can be resumed" in ask(admin, backfill, ask="resume")
    assert "It is cancelled now" in ask(admin, backfill, ask="cancel")
    assert buttons(admin.get(f"{HOME}{backfill.pk}/change/")) == set()
    asked = re.findall(rf"backfill={backfill.pk} (\w+).* by=ada", caplog.text)
    assert asked == ["pause", "resume", "concurrency", "cancel"]


def test_what_failed_is_shown_and_taken_up_again(history: History, admin: Client) -> None:
    bad = history.newest(history.light[0])
    with refused(bad):
        backfill = carried_out(started()).backfill
    page = admin.get(f"{HOME}{backfill.pk}/change/")
    assert buttons(page) == {"resume"}
    assert re.search(
        rf"Failed Chunk What Runs Error \d+ fill: workspaces \d+.* {bad} ProgrammingError: refused", text(page)
    )
    assert "It is running now" in ask(admin, backfill, ask="resume")


def test_the_part_that_is_asked_for_every_second(history: History, admin: Client) -> None:
    backfill = planned(concurrency=2)
    fill_batch(claimed(backfill))
    leases.fail(claimed(backfill), "OperationalError: deadlock detected")
    response = admin.get(f"{HOME}{backfill.pk}/progress/")
    assert "no-store" in response["Cache-Control"]
    page = text(response)
    assert "Running , started by a test" in page
    assert re.search(r"Filled \d+\.\d % of 182 runs, 4 pending, 1 running", page)
    assert re.search(r"To be tried again .*OperationalError: deadlock detected", page)
    assert re.search(r"Being worked on .* fill: workspaces? .* of \d+ runs", page)
    assert "1 of 2" in page
    control.pause(backfill.pk, actor="a test")
    assert "1 of 2" not in text(admin.get(f"{HOME}{backfill.pk}/progress/")), "nothing is worked on at a time"


def test_who_may_do_what(history: History) -> None:
    backfill = planned()
    page = f"{HOME}{backfill.pk}/change/"
    nobody, viewer, starter = client(name="n"), client("view_backfill", name="v"), client("add_backfill", name="s")
    for path in (HOME, page, f"{HOME}{backfill.pk}/progress/", f"{HOME}add/"):
        assert nobody.get(path).status_code == 403
    seen = viewer.get(page)
    assert seen.status_code == 200
    assert buttons(seen) == set()
    assert viewer.post(f"{HOME}{backfill.pk}/control/", {"ask": "cancel"}).status_code == 403
    assert viewer.get(f"{HOME}add/").status_code == 403
    assert starter.get(f"{HOME}add/").status_code == 200
    controls = client("change_backfill", name="c")
    assert controls.get(f"{HOME}{backfill.pk}/control/").status_code == 403, "a GET changes nothing"
    assert controls.get(page).status_code == 200
    assert controls.get(f"{HOME}12345/change/").status_code == 404
    assert control.get(backfill.pk).status == "running"
    assert Client().get(page).status_code == 302
