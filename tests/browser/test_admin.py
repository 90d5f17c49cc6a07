"""The admin's pages, as an operator sees them."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backfill import control, planner, worker
from tests.browser.conftest import Visit
from tests.browser.platform import Platform
from tests.browser.visitor import Visitor
from tests.hosts.adapter import Host
from workflows_tasks.models import WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


@pytest.fixture
def platform(live: Host) -> Platform:
    return Platform()


@pytest.fixture
def operator(platform: Platform, visit: Visit) -> Visitor:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    visitor = visit(platform.home)
    visitor.keep_cookie("sessionid", client.cookies["sessionid"].value)
    return visitor


def test_an_operator_finds_a_workspace_and_compares_it(platform: Platform, operator: Visitor) -> None:
    runs = platform.run_all()
    WorkspaceRecentWorkflow.objects.filter(last_run=runs[0], uid="").update(last_run=runs[1])
    page = operator.page
    page.goto(reverse("admin:workflows_tasks_workspacerecentworkflow_changelist"))
    page.get_by_role("textbox", name="Workspace").fill(str(platform.workspace.pk))
    page.get_by_role("button", name="Search").click()
    operator.sees("10 recent workflows")
    page.get_by_label("Select all objects on this page for an action").check()
    page.locator("select[name=action]").select_option("verify")
    page.locator("button[name=index]").click()
    operator.sees("is wrong tie")
    operator.bars_nobody("admin", ".recent-workflows-pipeline, .recent-workflows-by-key")
    page.locator("#result_list a[href*='/savedrun/']").first.click()
    page.wait_for_url("**/admin/bots/savedrun/*/change/")


def test_an_operator_follows_a_backfill_and_pauses_it(
    platform: Platform, operator: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "backfill")
    platform.run_all()
    page = operator.page
    page.goto(reverse("admin:backfill_backfill_add"))
    page.get_by_label("Chunk size").fill("1000")
    page.get_by_role("button", name="Save", exact=True).click()
    operator.sees("was added successfully")
    backfill = control.get()
    for action, says in (("pause", "paused"), ("resume", "enqueued")):
        page.get_by_label("Select all objects on this page for an action").check()
        page.locator("select[name=action]").select_option(action)
        page.locator("button[name=index]").click()
        operator.sees(f"Backfill {backfill.pk} is {says} now")
    page.goto(reverse("admin:backfill_backfill_change", args=[backfill.pk]))
    operator.sees("enqueued, started by operator")
    planner.carry_out(backfill.pk)
    operator.sees("running, started by operator")
    operator.bars_nobody("backfill", ".backfill")
    worker.work(backfill.pk)
    operator.sees("succeeded, started by operator")
    assert re.findall(rf"backfill={backfill.pk} (\w+) by=operator", caplog.text) == ["start", "pause", "resume"]
