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
    page.get_by_role("button", name="Start").click()
    operator.sees("is enqueued: a worker plans and fills it")
    backfill = control.get()
    page.get_by_role("button", name="Pause").click()
    operator.sees("pause. It is paused now")
    page.get_by_role("button", name="Resume").click()
    operator.sees("resume. It is enqueued now")
    planner.carry_out(backfill.pk)
    page.get_by_text("Running", exact=True).wait_for()
    operator.bars_nobody("backfill", ".backfill")
    worker.work(backfill.pk)
    page.get_by_text("Succeeded", exact=True).wait_for()
    page.get_by_role("button", name="Pause").wait_for(state="detached")
    assert re.findall(rf"backfill={backfill.pk} (\w+) by=operator", caplog.text) == ["start", "pause", "resume"]
