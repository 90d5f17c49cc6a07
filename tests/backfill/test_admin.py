"""Backfills in Django's admin: who may see, start and steer them, and what the pages show."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from backfill import control, leases
from backfill.models import Backfill
from tests.backfill.given import History, carry_out, claim_chunk, plan_backfill, start_backfill
from tests.hosts.adapter import Host
from workflows_tasks.capture import installation

pytestmark = pytest.mark.host_independent

HOME = "/admin/backfill/backfill/"

STEERED = ["pause", "resume", "cancel"]


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


def actions(response: Any) -> set[str]:
    return set(re.findall(r'<option value="(\w+)">', response.content.decode())) & {"pause", "resume", "cancel"}


def ask(admin: Client, action: str, backfill: Backfill) -> str:
    """What the list says after an action was chosen for a backfill."""
    return text(admin.post(HOME, {"action": action, "_selected_action": [backfill.pk]}, follow=True))


def test_the_list(history: History, admin: Client) -> None:
    done = carry_out(start_backfill(history.only(history.light[0]))).backfill
    going_on = plan_backfill()
    page = text(admin.get(HOME))
    assert f"backfill {done.pk}: succeeded, 100 % filled, 100 % verified a test" in page
    assert f"backfill {going_on.pk}: running, 0 % filled, 0 % verified a test" in page
    assert "Add backfill" in page
    assert admin.get(f"{HOME}?status=running").status_code == 200


def test_it_is_started_by_a_form(history: History, admin: Client) -> None:
    assert "the first and the last; or one key. Empty: all" in text(admin.get(f"{HOME}add/"))
    key = history.text(history.light[1])
    given = {"workspaces": f"{key}-{key}", "chunk_size": "9", "concurrency": "3"}
    done = text(admin.post(f"{HOME}add/", given, follow=True))
    backfill = control.get()
    assert (backfill.first_workspace, backfill.chunk_size, backfill.concurrency, backfill.actor) == (key, 9, 3, "ada")
    assert "was added successfully" in done
    for wrong, says in (({"concurrency": "0"}, "give a whole number"), ({"workspaces": "a-b"}, "is no range")):
        assert says in text(admin.post(f"{HOME}add/", given | wrong))
    installation.turn_off()
    try:
        assert "triggers are turned off" in text(admin.post(f"{HOME}add/", given))
    finally:
        installation.install()
    assert Backfill.objects.count() == 1


def test_it_is_steered_by_actions(history: History, admin: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "backfill")
    backfill = plan_backfill()
    assert actions(admin.get(HOME)) == {"pause", "resume", "cancel"}
    assert f"Backfill {backfill.pk} is paused now" in ask(admin, "pause", backfill)
    assert f"Backfill {backfill.pk} is running now" in ask(admin, "resume", backfill)
    assert "only a paused or failed one can be resumed" in ask(admin, "resume", backfill)
    assert f"Backfill {backfill.pk} is cancelled now" in ask(admin, "cancel", backfill)
    assert re.findall(rf"backfill={backfill.pk} (\w+) by=ada", caplog.text) == STEERED
    fields = [record.__dict__ for record in caplog.records if record.__dict__.get("actor") == "ada"]
    assert [(each["backfill"], each["what"]) for each in fields] == [(backfill.pk, what) for what in STEERED]


def test_its_page_is_what_the_command_prints_and_is_loaded_again_while_it_is_open(
    history: History, admin: Client
) -> None:
    backfill = plan_backfill(concurrency=2)
    leases.fail(claim_chunk(backfill), "OperationalError: deadlock detected")
    page = f"{HOME}{backfill.pk}/change/"
    shown = admin.get(page)
    assert shown["Refresh"] == "2"
    assert f"backfill {backfill.pk}: running, started by a test" in text(shown)
    assert re.search(r"to be tried again: chunk \d+ .*: OperationalError: deadlock detected", text(shown))
    carry_out(backfill)
    assert "Refresh" not in admin.get(page)


def test_who_may_do_what(history: History) -> None:
    backfill = plan_backfill()
    page = f"{HOME}{backfill.pk}/change/"
    nobody, viewer, starter = client(name="n"), client("view_backfill", name="v"), client("add_backfill", name="s")
    for path in (HOME, page, f"{HOME}add/"):
        assert nobody.get(path).status_code == 403
    assert viewer.get(page).status_code == 200
    assert actions(viewer.get(HOME)) == set()
    ask(viewer, "cancel", backfill)
    assert viewer.get(f"{HOME}add/").status_code == 403
    assert starter.get(f"{HOME}add/").status_code == 200
    steers = client("change_backfill", name="c")
    assert steers.get(page).status_code == 200
    assert steers.post(page, {"status": "cancelled"}).status_code == 403, "nothing is edited by hand"
    assert control.get(backfill.pk).status == "running"
    assert Client().get(page).status_code == 302
