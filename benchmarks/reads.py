"""A home page's read: the table beside four other ways to answer, and a primary key look-up as the limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks import rivals
from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import interleaved, once_s
from demo import replaced
from demo.measure import statement
from demo.narration import step
from workflows_tasks import recent_workflows
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow

OURS: Final = "recent_workflows()"
LIMIT: Final = "primary key look-up"
OURS_SQL: Final = "recent_workflows(), SQL alone"
LIMIT_SQL: Final = "primary key look-up, SQL alone"
DISTINCT: Final = "DISTINCT ON"

LIMITS: Final = (4, 20)
"""Rows of a home page, and of a sidebar."""

SAMPLE: Final = 3_000
"""Most workspaces in which the newest-200 scan's answer is looked at."""


def measure(stage: Stage, figures: Figures, *, rounds: int) -> None:
    """Times of all ways for three workspaces; plans; what the others cost besides."""
    with step("Reads: a loose index scan's and a materialized view's own tables") as came_of_it:
        figures.notes["storage"] = _storage(rivals.build_for_reads())
        came_of_it("built")
    execute("VACUUM ANALYZE")
    for place, workspace in _workspaces(stage).items():
        for limit in LIMITS:
            with step(f"Reads: {limit} rows of the {place} workspace") as came_of_it:
                came_of_it(_warm(figures, f"{place}, {limit} rows", ways(workspace, limit), rounds))
    for place, workspace in _workspaces(stage).items():
        with step(f"Reads: the first one of the {place} workspace after a restart of PostgreSQL"):
            _cold(stage, figures, place, workspace, rounds=2 if rounds < 20 else 3)
    with step("Reads: plans, and how often the newest-200 scan is wrong"):
        figures.notes["plan"] = plan(_workspaces(stage)["middle"])
        figures.notes["newest 200"] = {str(limit): _wrong(limit) for limit in LIMITS}
    rivals.drop_for_reads()


def ways(workspace: int, limit: int) -> Mapping[str, Callable[[], object]]:
    """Every way to read a page. The rivals' are bare cursors, without what an ORM costs; ours and the limit have it.
    The same two without it show how much of them is Django's."""
    pk = WorkspaceRecentWorkflow.objects.values_list("pk", flat=True)[1_000]
    return {
        OURS: lambda: list(recent_workflows(workspace, limit=limit)),
        DISTINCT: lambda: replaced.recent_workflows(workspace, limit=limit),
        "newest 200 runs": lambda: execute(rivals.NEWEST_200, [workspace, limit]),
        "loose index scan": lambda: execute(rivals.LOOSE_SCAN, {"workspace": workspace, "limit": limit}),
        "materialized view": lambda: execute(rivals.VIEW_READ, [workspace, limit]),
        LIMIT: lambda: WorkspaceRecentWorkflow.objects.get(pk=pk),
        OURS_SQL: statement(recent_workflows(workspace, limit=limit)),
        LIMIT_SQL: statement(WorkspaceRecentWorkflow.objects.filter(pk=pk)),
    }


def _workspaces(stage: Stage) -> dict[str, int]:
    """The one with most history, one with a page's worth of workflows in the middle, and one where nothing ever ran."""
    middle = [shape for shape in stage.shapes if shape.workflows >= max(LIMITS)]
    return {"heaviest": stage.shapes[0].id, "middle": middle[len(middle) // 2].id, "empty": stage.shapes[-1].id}


def _warm(figures: Figures, case: str, contenders: Mapping[str, Callable[[], object]], rounds: int) -> str:
    times = interleaved(contenders, rounds=rounds)
    for name, taken in times.items():
        figures.add("read", f"{case}, warm", name, "ms", [1000 * each for each in taken])
    against_limit = figures.add("read", f"{case}, warm", OURS, "× look-up", ratios(times[OURS], times[LIMIT]))
    figures.add("read", f"{case}, warm", OURS_SQL, "× look-up", ratios(times[OURS_SQL], times[LIMIT_SQL]))
    figures.add("read", f"{case}, warm", DISTINCT, "× ours", ratios(times[DISTINCT], times[OURS]))
    return f"{against_limit.median:.2f} × a look-up"


def _cold(stage: Stage, figures: Figures, place: str, workspace: int, *, rounds: int) -> None:
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, read in ways(workspace, 4).items():
            stage.restart_database()
            execute("SELECT 1")  # connecting is not reading
            taken.setdefault(name, []).append(1000 * once_s(read))
    for name, values in taken.items():
        figures.add("read", f"{place}, 4 rows, restarted", name, "ms", values)


def plan(workspace: int) -> list[dict[str, Any]]:
    """The nodes of our read's plan, top down: type, index, rows, heap fetches, buffers."""
    (root,) = json.loads(recent_workflows(workspace).explain(format="json", analyze=True, buffers=True))
    found, node = [], root["Plan"]
    while node:
        names = ("Node Type", "Index Name", "Actual Rows", "Heap Fetches", "Shared Hit Blocks")
        found.append({name: node[name] for name in names if name in node})
        node = next(iter(node.get("Plans", ())), None)
    return found


def _wrong(limit: int) -> dict[str, float]:
    """The share of workspaces, and of home pages (a workspace counts as often as it has runs), shown wrong."""
    ((workspaces, pages, looked_at),) = execute(rivals.WRONG, {"limit": limit, "sample": SAMPLE})
    return {"workspaces": float(workspaces), "pages": float(pages), "looked at": int(looked_at)}


def _storage(built_s: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Bytes and seconds to build, of each way that needs a structure of its own."""
    table = WorkspaceRecentWorkflow._meta.db_table
    ((ours, rows, by_workspace),) = execute(
        f"SELECT pg_total_relation_size('{table}'), count(*), count(*) FILTER (WHERE uid = '{WORKSPACE_GRAIN}') "
        f"FROM {table}"
    )
    sizes = {"recent_workflows()": {"bytes": ours, "rows": rows, "workspace rows": by_workspace}}
    for name, asking in rivals.SIZES.items():
        ((size,),) = execute(asking)
        sizes[name] = {"bytes": size, "built s": built_s[name]}
    sizes["materialized view"]["refreshed s"] = rivals.refreshed_s()
    ((history,),) = execute("SELECT pg_total_relation_size('bots_savedrun')")
    return sizes | {"history": {"bytes": history}}
