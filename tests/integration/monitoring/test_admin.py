"""The table in the admin: what waits, what is wrong and why, and what its actions answer."""

from __future__ import annotations

import html
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from tests.hosts.adapter import Host
from tests.integration.comparison.corruptions import lose_changes
from tests.integration.monitoring.conftest import Age
from workflows_tasks import admin
from workflows_tasks.capture import installation, triggers
from workflows_tasks.capture.triggers import ROW_TRIGGER
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


@pytest.fixture
def client(sound: Host) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def page(client: Client, **asked: Any) -> str:
    """The list; with ``action``, what that answers."""
    address = reverse("admin:workflows_tasks_workspacerecentworkflow_changelist")
    response: Any = client.post(address, asked, follow=True) if asked else client.get(address)
    return html.unescape(response.content.decode())


def chosen(action: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": list(WorkspaceRecentWorkflow.objects.values_list("pk", flat=True))}


def test_what_waits_stands_beside_the_row_and_above_the_list(client: Client, sound: Host, run: Any, wait: Age) -> None:
    assert "nothing waits" in page(client)
    sound.save_again(run)
    wait(30)
    shown = page(client)
    assert '<span class="recent-workflows-waits">1 change of its workspace waiting for 3' in shown
    assert "<strong>FAIL</strong> changes: 1 change waiting in shard" in shown
    assert "no responding worker consumes the queue" in shown


def test_a_trigger_that_is_missing_is_told_at_once(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON bots_savedrun')
    shown = page(client)
    installation.install()
    assert f"<strong>FAIL</strong> capture: bots_savedrun: has no trigger {ROW_TRIGGER}" in shown


@pytest.mark.parametrize("in_transaction", [False, True])
def test_the_change_log_is_missing(client: Client, run: Any, in_transaction: bool) -> None:
    """The page says so, and what to run. Also where each request is a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {CHANGES} RENAME TO renamed")
    try:
        with transaction.atomic() if in_transaction else nullcontext():
            shown = page(client)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE renamed RENAME TO {CHANGES}")
    assert "unknown: the change log cannot be read" in shown
    assert "<strong>FAIL</strong> database: " in shown
    assert triggers.COMMAND in shown


def test_verify(client: Client, sound: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"Workspace {run.workspace_id}"
    assert f"{where}: table and runs agree." in page(client, **chosen("verify"))
    sound.save_again(run)
    assert f"{where}: table and runs agree, except 1 waiting change, the oldest " in page(client, **chosen("verify"))
    lose_changes()
    shown = page(client, **chosen("verify"))
    assert f"{where}: 2 differences that no change explains (2 other run); verify --repair puts them right" in shown
    assert f"{where}, workflow {run.parent_version.published_run_id} by anybody is other run: stored run" in shown
    monkeypatch.setattr(admin, "MOST_RUNS", 0)
    command = f"manage.py recent_workflows verify --workspaces {run.workspace_id}..{run.workspace_id}"
    assert f"{where} has more than 0 runs. Run: {command}" in page(client, **chosen("verify"))


def test_recheck(client: Client, run: Any) -> None:
    assert "Logged 1 change; the next flush looks at their rows." in page(client, **chosen("recheck"))


def test_a_name_that_would_cost_a_query_for_each_row_is_left_out(
    client: Client, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = type(run.workspace)
    named = f'A workspace <span class="quiet">{run.workspace_id}</span>'
    assert named in page(client)
    monkeypatch.setattr(workspace, "__str__", lambda each: str(each.runs.count()))
    shown = page(client)
    assert named not in shown
    assert f'A workflow <span class="quiet">{run.parent_version.published_run_id}</span>' in shown
