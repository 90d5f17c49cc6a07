"""A workspace whose table is exact, and ways to make it wrong behind the change log's back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection

from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow


def lose_changes() -> None:
    """As writes are that no trigger saw."""
    with connection.cursor() as cursor:
        cursor.execute(f'DELETE FROM "{CHANGES}"')


class ThreeWorkspaces:
    """Three workspaces, in the order of their keys; runs are of the middle one, ``workspace``, unless they say."""

    def __init__(self, host: Host) -> None:
        self.host = host
        made = [host.make_workspace() for _ in range(3)]
        keys = host.workspace_model._base_manager.order_by(self._key_field()).values_list(self._key_field(), flat=True)
        ranks = {key: rank for rank, key in enumerate(keys)}
        self.earlier, self.workspace, self.beyond = sorted(made, key=lambda each: ranks[self.key_of(each)])
        self.user, self.workflow = host.make_user(), host.make_workflow()
        lose_changes()  # of what has no run yet

    def _key_field(self) -> str:
        return str(self.host.run_model._meta.get_field(self.host.workspace_field).target_field.attname)

    def key_of(self, workspace: Any) -> Any:
        return self.host.workspace_key(workspace)

    def run(self, minute: float, *, workspace: Any = None, workflow: Any = None) -> Any:
        return self.host.make_run(
            workspace=workspace or self.workspace, workflow=workflow or self.workflow, user=self.user,
            used_at=moment(minute),
        )  # fmt: skip

    def settle(self, minute: float, **where: Any) -> Any:
        """A run whose rows are written."""
        run = self.run(minute, **where)
        flush_all()
        return run

    def row(self, workflow: Any) -> Any:
        """The workspace's row of a workflow, as a queryset."""
        return WorkspaceRecentWorkflow.objects.filter(
            workspace_id=self.key_of(self.workspace), uid="", published_run=workflow
        )


def missing(three: ThreeWorkspaces, workflow: Any) -> None:
    """No row."""
    three.settle(5, workflow=workflow)
    three.row(workflow).delete()


def another_run(three: ThreeWorkspaces, workflow: Any) -> None:
    """The row names an older run than the newest."""
    older = three.run(4, workflow=workflow)
    three.settle(5, workflow=workflow)
    three.row(workflow).update(last_run=older, last_used_at=moment(4))


def ahead(three: ThreeWorkspaces, workflow: Any) -> None:
    """The row names the right run with a time that the run never had."""
    three.settle(5, workflow=workflow)
    three.row(workflow).update(last_used_at=moment(9))


def extra(three: ThreeWorkspaces, workflow: Any) -> None:
    """A row for a workflow that nobody used here; its run is another workflow's."""
    other = three.settle(5)
    WorkspaceRecentWorkflow.objects.create(
        workspace_id=three.key_of(three.workspace), uid="", published_run=workflow, last_run=other,
        last_used_at=moment(5),
    )  # fmt: skip


def left_behind(three: ThreeWorkspaces, workflow: Any) -> None:
    """A row whose run went without a word, and no other is left."""
    run = three.settle(5, workflow=workflow)
    three.host.hide(run)
    lose_changes()
    WorkspaceRecentWorkflow.objects.filter(last_run_id=run.pk).exclude(uid="").delete()


def wrong_tie(three: ThreeWorkspaces, workflow: Any) -> None:
    """Of two runs of one moment the row names the one with the lower key."""
    runs = three.host.run_model._base_manager
    made = [three.settle(5, workflow=workflow).pk for _ in range(2)]
    three.row(workflow).update(last_run_id=runs.filter(pk__in=made).order_by("pk").values_list("pk")[:1])


CORRUPTIONS: dict[str, tuple[str, Callable[[ThreeWorkspaces, Any], None]]] = {
    "missing": ("missing", missing),
    "another run": ("other run", another_run),
    "ahead of its run": ("other run", ahead),
    "extra": ("extra", extra),
    "left behind": ("extra", left_behind),
    "wrong tie": ("wrong tie", wrong_tie),
}
"""By name: what a difference is called, and how it is planted."""
