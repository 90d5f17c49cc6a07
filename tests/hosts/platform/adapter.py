from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Q

from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
from tests.hosts.adapter import Host, Truth


class Platform(Host):
    name = "platform"
    workspace_field = "workspace"
    user_field = "uid"
    used_at_field = "updated_at"
    large_column = "state"
    hidden = {"surface": 2}
    shown = {"surface": 0}
    closed = {"name": "closed"}
    opened = {"name": "A workspace"}
    filter_on_workspace = Q(surface=0) & ~Q(workspace__name="closed")
    allows = frozenset({"workspace", "user", "workflow"})
    poison = ("garbage", "", "1.5", "9223372036854775808", "-9223372036854775809", "9" * 5_000, "1\x00")
    absent = "9223372036854775807"
    run_model = SavedRun
    workspace_model = Workspace
    workflow_model = PublishedRun

    def make_workspace(self) -> Any:
        return Workspace.objects.create(name="A workspace")

    def make_user(self) -> Any:
        return f"user-{uuid.uuid4()}"

    def make_workflow(self) -> Any:
        return PublishedRun.objects.create(title="A workflow")

    def leading_to(self, workflow: Any) -> dict[str, Any]:
        if workflow is None:
            return {"parent_version": None}
        return {"parent_version": PublishedRunVersion.objects.create(published_run=workflow)}

    def without_last_hop(self) -> dict[str, Any]:
        raise NotImplementedError("a version always has its workflow here")

    def insert_runs(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        return [run.pk for run in SavedRun.objects.bulk_create([SavedRun(**row) for row in rows], batch_size=2_000)]

    def truths(self) -> Iterable[Truth]:
        workflow_of = dict(PublishedRunVersion.objects.values_list("pk", "published_run_id"))
        closed = set(Workspace.objects.filter(**self.closed).values_list("pk", flat=True))
        for run, workspace, uid, version, surface, updated_at in SavedRun.objects.values_list(
            "pk", "workspace_id", "uid", "parent_version_id", "surface", "updated_at"
        ):
            yield Truth(
                run,
                workspace,
                uid or None,
                workflow_of.get(version),
                updated_at,
                surface == 0 and workspace not in closed,
            )

    def user_text(self, user: Any) -> str:
        return str(user)


HOST = Platform()
