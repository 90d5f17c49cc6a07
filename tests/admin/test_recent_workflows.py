"""The table in Django's admin, whatever the types of the host's keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import LogIn, listed, told
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from workflows_tasks import admin as ours
from workflows_tasks import inbox
from workflows_tasks.models import WorkspaceRecentWorkflow

Rows = WorkspaceRecentWorkflow.objects


@pytest.fixture
def runs(live: Host) -> list[Any]:
    """Two runs of two workflows in one workspace by two users, and one elsewhere; all of it is in the table."""
    here, there = live.make_workspace(), live.make_workspace()
    first, second = live.make_workflow(), live.make_workflow()
    ada, alan = live.make_user(), live.make_user()
    made = [
        live.make_run(workspace=here, workflow=first, user=ada),
        live.make_run(workspace=here, workflow=second, user=alan),
        live.make_run(workspace=there, workflow=first, user=ada),
    ]
    flush_all()
    return made


def search(client: Client, page: str, **keys: Any) -> Any:
    return client.get(f"{page}?{urlencode(keys)}")


def act(client: Client, page: str, action: str, rows: list[int], **more: Any) -> Any:
    chosen = {"action": action, "_selected_action": rows, **more}
    return client.post(page, chosen, follow=True)


def test_the_list_is_in_the_order_of_home_pages(runs: list[Any], log_in: LogIn, page: str) -> None:
    order = Rows.order_by("workspace_id", "uid", "-last_used_at", "-last_run_id").values_list("pk", flat=True)
    assert listed(log_in("view").get(page)) == list(order)


def test_rows_are_found_by_each_key(live: Host, runs: list[Any], log_in: LogIn, page: str) -> None:
    client, row = log_in("view"), Rows.filter(last_run_id=runs[0].pk).exclude(uid="").get()
    workspace = {"workspace": row.workspace_id}
    for keys, condition in (
        (workspace, {"workspace_id": row.workspace_id}),
        ({**workspace, "user": row.uid}, {"workspace_id": row.workspace_id, "uid": row.uid}),
        ({"workflow": row.published_run_id}, {"published_run_id": row.published_run_id}),
        (
            {**workspace, "workflow": row.published_run_id},
            {"workspace_id": row.workspace_id, "published_run_id": row.published_run_id},
        ),
        ({"run": row.last_run_id}, {"last_run_id": row.last_run_id}),
        ({"run": row.last_run_id, "user": ""}, {"last_run_id": row.last_run_id}),
    ):
        expected = set(Rows.filter(**condition).values_list("pk", flat=True))
        assert set(listed(search(client, page, **keys))) == expected, keys
        assert expected


def test_a_key_that_is_none_is_said(live: Host, runs: list[Any], log_in: LogIn, page: str) -> None:
    client = log_in("view")
    for keys in (
        {"workspace": "a\0b"},
        {"workflow": "a\0b"},
        *({"run": text} for text in live.poison if text),
        {"user": "ada"},
    ):
        answer = search(client, page, **keys)
        assert listed(answer) == [], keys
        assert told(answer), keys
    assert "give the workspace, too" in told(answer)[0]


def test_an_address_cannot_ask_for_a_condition_without_an_index(runs: list[Any], log_in: LogIn, page: str) -> None:
    answer = search(log_in("view"), page, last_used_at__gte="2020-01-01")
    assert answer.status_code == 400


def test_nothing_can_be_edited(runs: list[Any], log_in: LogIn, page: str) -> None:
    client, row = log_in("add", "change", "delete", "view"), Rows.earliest("pk")
    one = reverse("admin:workflows_tasks_workspacerecentworkflow_change", args=[row.pk])
    shown = client.get(one).content.decode()
    assert str(row.last_run_id) in shown
    assert 'name="uid"' not in shown
    assert "no; a newer run of its key may be" in shown
    assert client.post(one, {"uid": "x"}).status_code == 403
    assert client.get(page.replace("/?", "") + "add/").status_code == 403
    assert client.post(one.replace("change", "delete"), {"post": "yes"}).status_code == 403
    actions = [name for name, _ in client.get(page).context["action_form"].fields["action"].choices]
    assert actions == ["", "verify", "announce"]
    assert Rows.filter(pk=row.pk, uid=row.uid).exists()


@pytest.mark.parametrize(
    ("may", "status", "actions"),
    [((), 403, []), (("view",), 200, ["verify"]), (("change",), 200, ["verify", "announce"])],
)
def test_permissions_are_respected(
    may: tuple[str, ...], status: int, actions: list[str], runs: list[Any], log_in: LogIn, page: str
) -> None:
    client = log_in(*may)
    answer = client.get(page)
    assert answer.status_code == status
    if status == 200:
        offered = [name for name, _ in answer.context["action_form"].fields["action"].choices]
        assert offered[1:] == actions
    act(client, page, "announce", list(Rows.values_list("pk", flat=True)))
    assert bool(sum(shard.pending for shard in inbox.status())) == ("announce" in actions)


def test_announced_rows_are_put_right_by_the_next_flush(live: Host, runs: list[Any], log_in: LogIn, page: str) -> None:
    row = Rows.filter(last_run_id=runs[0].pk, uid="").get()
    live.run_model._base_manager.filter(pk=runs[0].pk).update(**live.hidden)
    answer = act(log_in("change"), page, "announce", [row.pk])
    assert told(answer) == ["Runs announced: 1. The next flush looks at their rows."]
    flush_all()
    assert_exact(live)
    assert not Rows.filter(pk=row.pk).exists()


def test_verify_says_of_each_workspace_whether_it_agrees(
    live: Host, runs: list[Any], log_in: LogIn, page: str, configure: Configure
) -> None:
    configure(FLUSH_WINDOW_S=0.05)
    Rows.filter(last_run_id=runs[0].pk, uid="").update(last_run_id=runs[2].pk)
    answer = act(log_in("view"), page, "verify", list(Rows.values_list("pk", flat=True)))
    here, there = (live.workspace_key(getattr(run, live.workspace_field)) for run in (runs[0], runs[2]))
    messages = sorted(told(answer))
    assert len(messages) == 2
    assert f"Workspace {there}: table and runs agree." in messages
    (difference,) = [message for message in messages if f"Workspace {there}:" not in message]
    assert f"Workspace {here}, workflow" in difference
    assert "is wrong tie" in difference
    assert f"stored run {runs[2].pk} at" in difference
    assert f"true run {runs[0].pk} at" in difference


def test_too_much_to_verify_in_a_request_is_refused(
    runs: list[Any], log_in: LogIn, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, rows = log_in("change"), list(Rows.values_list("pk", flat=True))
    monkeypatch.setattr(ours, "MOST_RUNS", 1)
    warnings = told(act(client, page, "verify", rows))
    assert sorted("has more than 1 runs" in warning for warning in warnings) == [False, True]
    monkeypatch.setattr(ours, "MOST_WORKSPACES", 1)
    assert told(act(client, page, "verify", rows)) == ["These are rows of 2 workspaces; choose at most 1."]
    monkeypatch.setattr(ours, "MOST_CHOSEN", 3)
    for action in ("verify", "announce"):
        assert told(act(client, page, action, rows[:1], select_across=1)) == [
            "These are more than 3 rows; search for fewer."
        ]
    assert not any(shard.pending for shard in inbox.status())


def test_the_pipeline_is_shown_above_the_list(runs: list[Any], live: Host, log_in: LogIn, page: str) -> None:
    client = log_in("view")
    live.save_again(runs[0])
    live.save_again(runs[1])
    shown = " ".join(client.get(page).content.decode().split())
    assert "<dt>Runs waiting</dt><dd>2</dd>" in shown
    assert "<dt>Oldest waits</dt><dd>0.0 s</dd>" in shown or "<dd>0.1 s</dd>" in shown
    assert "99 % within" in shown


def test_without_redis_the_list_is_there_and_actions_say_what_they_lack(
    runs: list[Any], log_in: LogIn, page: str, configure: Configure
) -> None:
    client, rows = log_in("change"), list(Rows.values_list("pk", flat=True))
    configure(REDIS_URL="redis://127.0.0.1:1/0")
    assert "Redis did not take or give" in client.get(page).content.decode()
    Rows.filter(pk=rows[0]).update(uid="somebody else")
    assert "was not compared" in told(act(client, page, "verify", rows[:1]))[0]
    assert "Nothing was announced" in told(act(client, page, "announce", rows[:1]))[0]
    one = reverse("admin:workflows_tasks_workspacerecentworkflow_change", args=[rows[0]])
    assert "Redis did not take or give" in client.get(one).content.decode()
