"""Rows that are wrong although nothing is pending, each in the way that its name says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.exactness.scene import Scene
from tests.hosts.adapter import moment
from tests.oracle import flush_all
from workflows_tasks.models import WorkspaceRecentWorkflow


def _row(scene: Scene, workflow: Any) -> Any:
    return WorkspaceRecentWorkflow.objects.filter(
        workspace_id=scene.key_of(scene.workspace), uid="", published_run=workflow
    )


def missing(scene: Scene, workflow: Any) -> None:
    """A run was saved and its message lost: no row."""
    scene.run(5, workflow=workflow)
    flush_all()
    _row(scene, workflow).delete()


def stale(scene: Scene, workflow: Any) -> None:
    """The row names an older run than the newest."""
    older, _ = scene.run(4, workflow=workflow), scene.run(5, workflow=workflow)
    flush_all()
    _row(scene, workflow).update(last_run=older, last_used_at=moment(4))


def ahead(scene: Scene, workflow: Any) -> None:
    """The row names the right run with a time that the run never had: stale, the other way."""
    scene.run(5, workflow=workflow)
    flush_all()
    _row(scene, workflow).update(last_used_at=moment(9))


def extra(scene: Scene, workflow: Any) -> None:
    """There is a row for a workflow that nobody used here; its run is another workflow's."""
    other = scene.run(5)
    flush_all()
    WorkspaceRecentWorkflow.objects.create(
        workspace_id=scene.key_of(scene.workspace),
        uid="",
        published_run=workflow,
        last_run=other,
        last_used_at=moment(5),
    )


def left_behind(scene: Scene, workflow: Any) -> None:
    """There is a row whose run was deleted without a word, and no other is left: extra, too."""
    run = scene.run(5, workflow=workflow)
    flush_all()
    scene.update(run, **scene.host.hidden)
    WorkspaceRecentWorkflow.objects.filter(last_run_id=run.pk).exclude(uid="").delete()


def wrong_tie(scene: Scene, workflow: Any) -> None:
    """Of two runs of one moment the row names the one with the lower key."""
    runs = scene.host.run_model._base_manager
    made = [scene.run(5, workflow=workflow).pk for _ in range(2)]
    flush_all()
    _row(scene, workflow).update(last_run_id=runs.filter(pk__in=made).order_by("pk").values_list("pk")[:1])


CORRUPTIONS: dict[str, tuple[str, Callable[[Scene, Any], None]]] = {
    "missing": ("missing", missing),
    "stale": ("stale", stale),
    "ahead of its run": ("stale", ahead),
    "extra": ("extra", extra),
    "left behind": ("extra", left_behind),
    "wrong tie": ("wrong tie", wrong_tie),
}
"""By name: what ``verify`` calls it, and how it is planted in a workflow of the scene's."""
