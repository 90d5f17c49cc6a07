"""A home page's read: the table, plain and fresh, beside other ways to answer and a primary key look-up as limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import interleaved
from demo import replaced
from demo.narration import step
from workflows_tasks import conf, recent_workflows
from workflows_tasks.keys import shard_of, shard_sql
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.projection.flush import flush_all

PLAIN: Final = "recent_workflows()"
FRESH: Final = "recent_workflows(fresh=True)"
LIMIT: Final = "primary key look-up"
DISTINCT: Final = "DISTINCT ON"
PENDING: Final = (0, 10, 100, 1_000)

# What many platforms run: the newest runs of a workspace, and of those the newest of each workflow.
NEWEST_200: Final = """
    SELECT run, workflow, used_at FROM (
        SELECT DISTINCT ON (version.published_run_id)
            run.id AS run, version.published_run_id AS workflow, run.updated_at AS used_at
        FROM (
            SELECT id, parent_version_id, updated_at FROM bots_savedrun
            WHERE workspace_id = %s AND surface = 0 ORDER BY updated_at DESC LIMIT 200
        ) AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        ORDER BY version.published_run_id, run.updated_at DESC, run.id DESC
    ) AS newest
    ORDER BY used_at DESC, run DESC LIMIT %s
"""


def measure(stage: Stage, figures: Figures, *, rounds: int) -> None:
    """Times of all ways for two workspaces; then fresh pages by what is pending; then many workflows on one day."""
    execute("VACUUM ANALYZE")
    for place, workspace in workspaces(stage).items():
        with step(f"Reads: 4 rows of the {place} workspace") as came_of_it:
            came_of_it(_compared(figures, place, workspace, rounds))
    middle = workspaces(stage)["middle"]
    shards = conf.settings().shards
    in_shard = f"{shard_sql('workspace_id::text', shards)} = {shard_of(str(middle), shards)}"
    for whose, runs in (("in the shard", in_shard), ("of the workspace", f"workspace_id = {middle}")):
        for count in PENDING:
            with step(f"Reads: fresh, with {count:,} pending changes {whose}") as came_of_it:
                came_of_it(_fresh(figures, middle, runs, f"{count:,} pending {whose}", count, rounds))
    flush_all()
    for count in (4, 112, 2_000):
        with step(f"Reads: {count:,} workflows used on one day") as came_of_it:
            came_of_it(_one_day(figures, count, rounds))


def workspaces(stage: Stage) -> dict[str, int]:
    """The one with most history, and one with a page's worth of workflows in the middle."""
    middle = [shape for shape in stage.shapes if shape.workflows >= 20]
    return {"heaviest": stage.shapes[0].id, "middle": middle[len(middle) // 2].id}


def _compared(figures: Figures, place: str, workspace: int, rounds: int) -> str:
    pk = WorkspaceRecentWorkflow.objects.values_list("pk", flat=True)[100]
    ways: Mapping[str, Callable[[], object]] = {
        PLAIN: lambda: list(recent_workflows(workspace)),
        FRESH: lambda: list(recent_workflows(workspace, fresh=True)),
        DISTINCT: lambda: replaced.recent_workflows(workspace, limit=4),
        "newest 200 runs": lambda: execute(NEWEST_200, [workspace, 4]),
        LIMIT: lambda: WorkspaceRecentWorkflow.objects.get(pk=pk),
    }
    times = interleaved(ways, rounds=rounds)
    for name, took in times.items():
        figures.add("read", place, name, "ms", [1000 * each for each in took])
    against = figures.add("read", place, PLAIN, "× look-up", ratios(times[PLAIN], times[LIMIT]))
    figures.add("read", place, DISTINCT, "× ours", ratios(times[DISTINCT], times[PLAIN]))
    return f"{against.median:.2f} × a look-up"


def _fresh(figures: Figures, workspace: int, runs: str, case: str, count: int, rounds: int) -> str:
    """What a fresh page costs beyond the plain one.

    Args:
        runs: condition on those that are saved again.
    """
    flush_all()
    execute(
        "UPDATE bots_savedrun SET updated_at = updated_at + interval '1 microsecond' WHERE id IN "
        f"(SELECT id FROM bots_savedrun WHERE {runs} ORDER BY hashint8(id) LIMIT %s)",
        [count],
    )
    execute("ANALYZE workflows_tasks_change")
    ways = {
        PLAIN: lambda: list(recent_workflows(workspace)),
        FRESH: lambda: list(recent_workflows(workspace, fresh=True)),
    }
    times = interleaved(ways, rounds=rounds)
    added = [1e6 * (fresh - plain) for fresh, plain in zip(times[FRESH], times[PLAIN], strict=True)]
    return f"+{figures.add('fresh', case, FRESH, 'µs more than plain', added).median:.0f} µs"


def _one_day(figures: Figures, count: int, rounds: int) -> str:
    workspace = 10_000_000 + count
    execute(
        "INSERT INTO workflows_tasks_workspacerecentworkflow "
        "(workspace_id, uid, published_run_id, last_used_at, last_run_id) "
        "SELECT %s, '', n, timestamptz '2026-01-15 12:00+00' + n * interval '1 second', n "
        "FROM generate_series(1, %s) n ORDER BY random()",
        [workspace, count],
    )
    execute("VACUUM ANALYZE workflows_tasks_workspacerecentworkflow")
    times = interleaved({PLAIN: lambda: list(recent_workflows(workspace))}, rounds=rounds)
    figure = figures.add("read", f"{count:,} workflows on one day", PLAIN, "ms", [1000 * each for each in times[PLAIN]])
    execute("DELETE FROM workflows_tasks_workspacerecentworkflow WHERE workspace_id = %s", [workspace])
    return f"{figure.median:.2f} ms"
