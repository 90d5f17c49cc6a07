"""The admin's page of recent workflows, as an operator sees it."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backfill import planning, runner, work
from backfill.models import Event
from tests.browser.conftest import Visit
from tests.browser.stage import Stage
from tests.browser.visitor import DESKTOP, PHONE, Visitor
from tests.oracle import flush_all
from workflows_tasks.models import WorkspaceRecentWorkflow


def _log_in(visitor: Visitor) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    visitor.keep_cookie("sessionid", client.cookies["sessionid"].value)


def test_an_operator_finds_a_workspace_compares_it_and_has_it_looked_at(stage: Stage, visit: Visit) -> None:
    runs = [stage.run(stage.workflow(title)) for title in ("Rank menus", "Tag tenders", "Draft recipes")]
    flush_all()
    WorkspaceRecentWorkflow.objects.filter(last_run=runs[0], uid="").update(last_run=runs[1])
    visitor = visit(stage.home)
    _log_in(visitor)
    visitor.go(reverse("admin:workflows_tasks_workspacerecentworkflow_changelist"))
    visitor.page.get_by_role("textbox", name="Workspace").fill(str(stage.workspace.pk))
    visitor.page.get_by_role("button", name="Search").click()
    visitor.sees("6 recent workflows")
    visitor.page.get_by_label("Select all objects on this page for an action").check()
    visitor.page.locator("select[name=action]").select_option("verify")
    visitor.page.locator("button[name=index]").click()
    visitor.sees("is wrong tie")
    for width in (DESKTOP, PHONE):
        visitor.resize(width)
        visitor.picture("admin")
    assert visitor.violations(".recent-workflows-pipeline, .recent-workflows-by-key") == []
    visitor.page.locator("#result_list a[href*='/savedrun/']").first.click()
    visitor.page.wait_for_url("**/admin/bots/savedrun/*/change/")


def test_an_operator_follows_a_backfill_and_pauses_it(stage: Stage, visit: Visit) -> None:
    for title in ("Rank menus", "Tag tenders", "Draft recipes"):
        stage.run(stage.workflow(title))
    flush_all()
    visitor = visit(stage.home)
    _log_in(visitor)
    visitor.go(reverse("admin:backfill_run_start"))
    visitor.page.get_by_label("Chunk size").fill("1000")
    visitor.page.get_by_role("button", name="Start").click()
    visitor.sees("is enqueued: a worker plans and fills it")
    run = runner.get()
    visitor.page.get_by_role("button", name="Pause").click()
    visitor.sees("pause. It is paused now")
    visitor.page.get_by_role("button", name="Resume").click()
    visitor.sees("resume. It is enqueued now")
    planning.carry_out(run.pk)
    visitor.page.get_by_text("Running", exact=True).wait_for()
    visitor.picture("backfill")
    assert visitor.violations(".backfill") == []
    work.work(run.pk)
    visitor.page.get_by_text("Succeeded", exact=True).wait_for()
    visitor.page.get_by_role("button", name="Pause").wait_for(state="detached")
    assert [(event.actor, event.what) for event in Event.objects.filter(run=run, actor="operator")] == [
        ("operator", "start"),
        ("operator", "pause"),
        ("operator", "resume"),
    ]
