"""History into the table: ours beside one statement over everything and two ways that come to mind first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from backfill import advice, runner, tasks
from backfill.models import Chunk, Run
from backfill.states import Kind, RunStatus
from benchmarks.figures import Figures
from benchmarks.stage import Stage, execute
from demo.bots.models import SavedRun
from demo.narration import step
from workflows_tasks import conf, projection
from workflows_tasks.models import WorkspaceRecentWorkflow

ONE: Final = "one INSERT … SELECT"
UPSERT: Final = "ours, undivided"
LOOP: Final = "a statement per workspace"
ITERATOR: Final = "iterator(), update_or_create()"
PARALLEL: Final = (1, 2, 4)
INDEXED: Final = "ours, 2 at a time, with the index that plan advises"

UNTIL_FILLED: Final = "of that, until all was filled, not verified yet"
WITHIN_S: Final = 1_800.0

POLL_S: Final = 0.05

LOOPED: Final = 200
"""Small workspaces that the loop is timed on; the rest of its time is worked out."""

ITERATED: Final = 300
"""Runs that ``update_or_create`` is timed on."""

_NEWEST: Final = """
    WITH by_user AS MATERIALIZED (
        SELECT DISTINCT ON (run.workspace_id, run.uid, version.published_run_id)
            run.workspace_id, run.uid, version.published_run_id, run.updated_at, run.id
        FROM bots_savedrun AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        WHERE run.surface = 0 AND {where}
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
ONE_STATEMENT: Final = _NEWEST.format(where="run.workspace_id IS NOT NULL")
OF_A_WORKSPACE: Final = _NEWEST.format(where="run.workspace_id = %s")


def ours(parallel: int) -> str:
    return f"ours, {parallel} at a time"


def measure(stage: Stage, figures: Figures, *, rounds: int) -> None:
    """Each into an empty table, in turn; the two slow ones on a part, from which the whole is worked out."""
    execute("VACUUM ANALYZE bots_savedrun")  # the sections before have saved runs, which the first would pay for
    ways: dict[str, Callable[[], float]] = {
        ONE: lambda: _into_empty(lambda: execute(ONE_STATEMENT)), UPSERT: lambda: _into_empty(projection.fill)
    }  # fmt: skip
    filled: dict[str, list[float]] = {name: [] for name in (*map(ours, PARALLEL), INDEXED)}
    ways |= {ours(n): partial(_by_workers, stage, figures, ours(n), filled, parallel=n) for n in PARALLEL}
    ways |= {INDEXED: partial(_indexed, stage, figures, filled)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in random.Random(turn).sample(list(ways), len(ways)):
            with step(f"Filling: {name}") as came_of_it:
                taken[name].append(ways[name]())
                came_of_it(f"{stage.runs / taken[name][-1]:,.0f} runs/s")
    for name, seconds in taken.items():
        figures.add("backfill", "all of history", name, "s", seconds)
        compared = [one / other for one, other in zip(seconds, taken[ONE], strict=True)]
        figures.add("backfill", "all of history", name, "× one statement", compared)
    for name, seconds in filled.items():
        figures.add("backfill", UNTIL_FILLED, name, "s", seconds)
    with step("Filling: the two slow ways, on a part"):
        _extrapolated(stage, figures)
    execute("VACUUM ANALYZE workflows_tasks_workspacerecentworkflow")


def _by_workers(stage: Stage, figures: Figures, name: str, filled: dict[str, list[float]], *, parallel: int) -> float:
    """A backfill as an operator starts it, on a worker that is ready; adds to ``filled`` when it began to verify."""
    with stage.worker(conf.settings().backfill_queue, concurrency=parallel, name="filling") as worker:
        taken_s = _into_empty(lambda: filled[name].append(backfilled(parallel=parallel)))
        figures.notes.setdefault("chunks", {})[name] = {**_chunks(), "worker MB": _peak_mb(worker.pid)}
        return taken_s


def _indexed(stage: Stage, figures: Figures, filled: dict[str, list[float]]) -> float:
    """The same with the index, which is made before and gone afterwards, as an operator would."""
    advised = advice.advise()
    started = time.monotonic()
    execute(advised.index)
    made_s = time.monotonic() - started
    ((size,),) = execute(f"SELECT pg_relation_size('{advice.NAME}')")
    figures.notes["advised index"] = {"bytes": size, "made s": made_s}
    taken_s = _by_workers(stage, figures, INDEXED, filled, parallel=2)
    execute(f"DROP INDEX {advice.NAME}")
    return taken_s


def _chunks() -> dict[str, Any]:
    """How the chunks of the last backfill differ in time, and whether they are as large as they should be."""
    run = Run.objects.latest("id")
    chunks = list(Chunk.objects.filter(run=run, kind=Kind.FILL))
    seconds, planned = [chunk.seconds for chunk in chunks], [chunk.planned for chunk in chunks]
    quartiles = quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return {
        "count": len(chunks), "quartiles s": quartiles, "longest s": max(seconds), "target": run.chunk_size,
        "largest": max(planned), "runs": sum(planned),
        "counted": _counting().count(),
    }  # fmt: skip


def _peak_mb(worker: int) -> float:
    """Most memory that one of a worker's processes ever had."""
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    status = [Path(f"/proc/{child}/status").read_text() for child in children]
    return max(int(each.split("VmHWM:")[1].split()[0]) for each in status) / 1024


def backfilled(*, parallel: int) -> float:
    """Planned, filled and verified by a worker that there is; the ticks, which beat would send, are made here.

    Returns the seconds after which all was filled.

    Raises:
        RuntimeError: it did not succeed.
    """
    started = time.monotonic()
    run = runner.start(parallel=parallel, actor="benchmarks")
    filled_s, tick_s = 0.0, 0.0
    while (now_s := time.monotonic() - started) < WITHIN_S:
        if now_s >= tick_s:
            tasks.tick()
            tick_s = now_s + conf.settings().backfill_tick_s
        run.refresh_from_db()
        if not run.is_open:
            break
        if run.status == RunStatus.VERIFYING:
            filled_s = filled_s or now_s
        time.sleep(POLL_S)
    if run.status != RunStatus.SUCCEEDED:
        raise RuntimeError(f"{run}: {run.error or runner.status(run.pk).reasons}")
    return filled_s


def _into_empty(fill: Callable[[], Any]) -> float:
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    execute("CHECKPOINT")
    started = time.monotonic()
    fill()
    return time.monotonic() - started


def _extrapolated(stage: Stage, figures: Figures) -> None:
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    figures.add("backfill", "all of history, worked out", LOOP, "s", [_loop_s(stage)])
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    figures.add("backfill", "all of history, worked out", ITERATOR, "s", [_iterator_s(stage)])
    execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
    projection.fill()


def _loop_s(stage: Stage) -> float:
    """The five heaviest workspaces, and a sample of the others for all of them."""
    heavy, small = stage.shapes[:5], stage.shapes[5:]
    sample = random.Random(1).sample(small, min(LOOPED, len(small)))

    def seconds(shapes: Any) -> float:
        started = time.monotonic()
        for shape in shapes:
            execute(OF_A_WORKSPACE, [shape.id])
        return time.monotonic() - started

    return seconds(heavy) + seconds(sample) * len(small) / len(sample)


def _counting() -> Any:
    """The runs that history counts, as a host would ask for them."""
    return SavedRun.objects.filter(surface=0, workspace__isnull=False, parent_version__isnull=False)


def _iterator_s(stage: Stage) -> float:
    some = _counting().select_related("parent_version").defer("state").order_by("updated_at")[:ITERATED]
    started = time.monotonic()
    for run in some.iterator():
        assert run.parent_version is not None
        for uid in {"", run.uid or ""}:
            WorkspaceRecentWorkflow.objects.update_or_create(
                workspace_id=run.workspace_id,
                uid=uid,
                published_run_id=run.parent_version.published_run_id,
                defaults={"last_used_at": run.updated_at, "last_run_id": run.pk},
            )
    return (time.monotonic() - started) * stage.runs / len(some)
