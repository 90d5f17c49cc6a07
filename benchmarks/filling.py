"""History into the table: a backfill beside one statement over everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from backfill import control, tasks
from backfill.models import Backfill
from backfill.states import BackfillStatus
from benchmarks.figures import Figures
from benchmarks.stage import Stage, execute
from demo.narration import step
from workflows_tasks import conf, history

ONE: Final = "one INSERT … SELECT"
UNDIVIDED: Final = "ours, undivided"
WITHIN_S: Final = 1_800.0
POLL_S: Final = 0.05

ONE_STATEMENT: Final = """
    WITH by_user AS MATERIALIZED (
        SELECT DISTINCT ON (run.workspace_id, run.uid, version.published_run_id)
            run.workspace_id, run.uid, version.published_run_id, run.updated_at, run.id
        FROM bots_savedrun AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        WHERE run.surface = 0 AND run.workspace_id IS NOT NULL
        ORDER BY run.workspace_id, run.uid, version.published_run_id, run.updated_at DESC, run.id DESC
    )
    INSERT INTO workflows_tasks_workspacerecentworkflow
        (workspace_id, uid, published_run_id, last_used_at, last_run_id)
    SELECT * FROM by_user WHERE uid IS NOT NULL
    UNION ALL (
        SELECT DISTINCT ON (workspace_id, published_run_id) workspace_id, '', published_run_id, updated_at, id
        FROM by_user ORDER BY workspace_id, published_run_id, updated_at DESC, id DESC
    )
"""


def measure(stage: Stage, figures: Figures, *, rounds: int) -> None:
    """Each into an empty table, in turn."""
    execute("VACUUM ANALYZE bots_savedrun")  # the sections before have saved runs, which the first would pay for
    ways: dict[str, Callable[[], object]] = {
        ONE: lambda: execute(ONE_STATEMENT),
        UNDIVIDED: lambda: history.fill(history.EVERYWHERE),
        "ours, 2 at a time": lambda: backfilled(concurrency=2),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    with stage.worker(conf.settings().backfill_queue, concurrency=2, name="filling"):
        for _ in range(rounds):
            for name, fill in ways.items():
                with step(f"Filling: {name}") as came_of_it:
                    took[name].append(_into_empty(fill))
                    came_of_it(f"{stage.runs / took[name][-1]:,.0f} runs/s")
    for name, seconds in took.items():
        figures.add("backfill", "all of history", name, "s", seconds)
        compared = [one / other for one, other in zip(seconds, took[ONE], strict=True)]
        figures.add("backfill", "all of history", name, "× one statement", compared)


def backfilled(*, concurrency: int) -> None:
    """Start a backfill and do what beat does until it has succeeded.

    Raises:
        RuntimeError: it ended otherwise, or not in time.
    """
    backfill = control.start(concurrency=concurrency, actor="a benchmark")
    until_s = time.monotonic() + WITHIN_S
    while (now := Backfill.objects.get(pk=backfill.pk)).status != BackfillStatus.SUCCEEDED:
        if not now.is_open or time.monotonic() > until_s:
            raise RuntimeError(f"The backfill is {now.status}: {now.error}")
        tasks.tick()
        time.sleep(POLL_S)


def _into_empty(fill: Callable[[], object]) -> float:
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    execute("CHECKPOINT")
    started = time.monotonic()
    fill()
    return time.monotonic() - started
