"""What the home page offers to look at, and what finding it costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.core.cache import cache as shared
from django.db.models import Count

from demo import measure, replaced
from demo.bots.models import Workspace
from demo.shape import EMPTY, HEAVIEST
from workflows_tasks import recent_workflows
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow

USERS_LISTED = 40
COST_MEASURED_EVERY_S = 10
LISTED_ANEW_S = 10


def listed_workspaces() -> list[Workspace]:
    """Those of the switcher: the ones with most history, a busy one first, those with most workflows, an empty one."""
    listed = shared.get("listed")
    if listed is None:
        shared.set("listed", listed := _listed_workspaces(), LISTED_ANEW_S)
    return list(listed)


def _listed_workspaces() -> list[Workspace]:
    rows = WorkspaceRecentWorkflow.objects.filter(uid=WORKSPACE_GRAIN)
    many = rows.values("workspace").annotate(workflows=Count("id")).order_by("-workflows", "workspace")
    heaviest = [workspace for workspace, _, _ in reversed(HEAVIEST)]
    keys = [*heaviest, *many.values_list("workspace", flat=True)[:5], EMPTY]
    found = Workspace.objects.in_bulk(keys)
    return [found[key] for key in dict.fromkeys(keys) if key in found]


def listed_users(workspace: Workspace, shown: str | None) -> list[str]:
    """Users of the switcher: some of the workspace's, and always the one shown."""
    rows = WorkspaceRecentWorkflow.objects.filter(workspace=workspace).exclude(uid=WORKSPACE_GRAIN)
    some: Iterable[str] = rows.order_by("uid").values_list("uid", flat=True).distinct()[:USERS_LISTED]
    return sorted({*some, *([shown] if shown else [])})


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds that this page's workflows take to find, the two ways."""

    history_ms: float
    table_ms: float

    @classmethod
    def lately(cls, workspace: int, user: str | None) -> Cost:
        """Measured now and then, not on every request: the old way would slow the page it is compared on."""
        key = f"cost {workspace} {user or ''}".replace(" ", "-")
        measured = shared.get(key)
        if not isinstance(measured, cls):
            measured = cls(
                history_ms=measure.best_ms(lambda: replaced.recent_workflows(workspace, user), rounds=2),
                table_ms=measure.best_ms(measure.statement(recent_workflows(workspace, user)), rounds=20),
            )
            shared.set(key, measured, COST_MEASURED_EVERY_S)
        return measured

    @property
    def history_percent(self) -> float:
        return 100 * self.history_ms / max(self.history_ms, self.table_ms)

    @property
    def table_percent(self) -> float:
        return 100 * self.table_ms / max(self.history_ms, self.table_ms)
