"""History into the table: a backfill beside one statement over everything."""

from __future__ import annotations

import time
from collections import defaultdict
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
FILLED: Final = "ours, 2 at a time, filled"
VERIFIED: Final = "ours, 2 at a time, filled and compared"
COVERING: Final = ", with a covering index"

COVERING_INDEX: Final = """
    CREATE INDEX covering ON bots_savedrun (workspace_id, id) INCLUDE (uid, updated_at, parent_version_id, surface)
"""
"""What docs/backfill.md advises where the runs of a workspace lie all over the table."""
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
    took: dict[str, list[float]] = defaultdict(list)
    with stage.worker(conf.settings().backfill_queue, concurrency=2, name="filling"):
        for _ in range(rounds):
            for name, fill in {ONE: lambda: execute(ONE_STATEMENT), UNDIVIDED: _undivided}.items():
                with step(f"Filling: {name}") as came_of_it:
                    took[name].append(_into_empty(fill))
                    came_of_it(f"{stage.runs / took[name][-1]:,.0f} runs/s")
            _backfilled(took)
            execute(COVERING_INDEX)
            execute("VACUUM ANALYZE bots_savedrun")
            _backfilled(took, COVERING)
            execute("DROP INDEX covering")
    for name, seconds in took.items():
        figures.add("backfill", "all of history", name, "s", seconds)
        compared = [one / other for one, other in zip(seconds, took[ONE], strict=True)]
        figures.add("backfill", "all of history", name, "× one statement", compared)


def _undivided() -> None:
    history.fill(history.EVERYWHERE)


def _backfilled(took: dict[str, list[float]], how: str = "") -> None:
    """A whole backfill. It is noted when all was filled, and when all was compared."""
    filled: list[float] = []
    with step(f"Filling: ours, 2 at a time{how}") as came_of_it:
        seconds = _into_empty(lambda: filled.append(backfilled(concurrency=2)))
        took[FILLED + how] += filled
        took[VERIFIED + how].append(seconds)
        came_of_it(f"filled in {filled[0]:.1f} s, compared after {seconds:.1f} s")


def backfilled(*, concurrency: int) -> float:
    """Start a backfill and do what beat does until it has succeeded; returns the seconds until all was filled.

    Raises:
        RuntimeError: it ended otherwise, or not in time.
    """
    started, filled_s = time.monotonic(), None
    backfill = control.start(concurrency=concurrency, actor="a benchmark")
    while (now := Backfill.objects.get(pk=backfill.pk)).status != BackfillStatus.SUCCEEDED:
        if now.has_ended or time.monotonic() > started + WITHIN_S:
            raise RuntimeError(f"The backfill is {now.status}: {now.error}")
        if filled_s is None and now.status == BackfillStatus.VERIFYING:
            filled_s = time.monotonic() - started
        tasks.tick()
        time.sleep(POLL_S)
    return filled_s or time.monotonic() - started


def _into_empty(fill: Callable[[], object]) -> float:
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    execute("CHECKPOINT")
    started = time.monotonic()
    fill()
    return time.monotonic() - started
