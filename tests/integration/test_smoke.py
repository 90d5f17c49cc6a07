"""One save, one flush, one page: on every host."""

from __future__ import annotations

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from workflows_tasks import recent_workflows


def test_a_saved_run_is_on_its_page(live: Host) -> None:
    workspace, user, workflow = live.make_workspace(), live.make_user(), live.make_workflow()
    run = live.make_run(workspace=workspace, workflow=workflow, user=user)
    assert [row.last_run_id for row in recent_workflows(workspace, fresh=True)] == [run.pk]
    flush_all()
    assert_exact(live)
    assert [row.last_run_id for row in recent_workflows(workspace, user)] == [run.pk]
