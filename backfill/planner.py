"""Count the runs in one snapshot, pack them into chunks, and store those once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connections

from backfill import lifecycle, models, ranges
from backfill.log import record
from backfill.models import Backfill, Chunk, store
from backfill.ranges import Step
from backfill.states import BackfillStatus, Kind
from workflows_tasks import history
from workflows_tasks.errors import RecentWorkflowsError
from workflows_tasks.history import EVERYWHERE, Range, Sql

STEPS: Final = 20
"""Steps in a chunk, about. A workspace with more runs is cut into steps. So chunks are of equal size, give or take a
step and a half."""

TIMEOUT_S: Final = 3_600.0
"""Seconds after which a statement that reads all runs gives up."""

LOCK_CLASS: Final = 0x52574650
"""First key of the advisory lock of whoever plans a backfill. The second is the backfill."""

KEEPS_A_PLAN: Final = frozenset({BackfillStatus.PLANNING, BackfillStatus.PAUSED})
"""Statuses in which a plan that is ready is stored. A cancelled backfill needs none."""


class PlannedByAnother(RecentWorkflowsError):
    """Another worker plans this backfill."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Chunks to fill, and ranges to verify. Each is a list of steps."""

    chunks: list[list[Step]]
    ranges: list[list[Step]]
    workspaces: int
    chunk_size: int
    counted_at: datetime
    """Runs that were committed earlier are in the plan. Later ones are in the change log."""

    @property
    def runs(self) -> int:
        return sum(step.runs for chunk in self.chunks for step in chunk)

    @property
    def largest(self) -> int:
        """Runs of the largest chunk."""
        return max((sum(step.runs for step in chunk) for chunk in self.chunks), default=0)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "workspaces": self.workspaces,
            "chunks": [ranges.join(chunk)._asdict() for chunk in self.chunks],
            "largest_chunk": self.largest,
            "chunk_size": self.chunk_size,
            "counted_at": self.counted_at.isoformat(),
        }


def plan(among: Range, *, chunk_size: int, backfill_id: int | None = None) -> Plan:
    """Count the runs of each workspace and pack them into chunks, in one snapshot. Writes nothing.

    Args:
        backfill_id: the backfill that it is for. Raises ``PlannedByAnother`` if another worker plans it.
    """
    size = max(chunk_size // STEPS, 1)
    with history.snapshot(statement_s=TIMEOUT_S):
        if backfill_id is not None and not _locks(backfill_id):
            raise PlannedByAnother(f"backfill {backfill_id} is being planned")
        ((counted_at,),) = history.rows(Sql("SELECT now()"))
        rows = history.rows(_weights(among, size))
        heavy = [first for first, _, runs, workspaces in rows if runs > size and workspaces == 1]
        cuts = _cuts(heavy, size)
    whole = [Step(first, None, last, None, runs) for first, last, runs, _ in rows]
    return Plan(
        chunks=list(ranges.pack([piece for step in whole for piece in _pieces(step, cuts, size)], chunk_size)),
        ranges=list(ranges.pack(whole, chunk_size)),
        workspaces=sum(workspaces for *_, workspaces in rows),
        chunk_size=chunk_size,
        counted_at=counted_at,
    )


def _locks(backfill_id: int) -> bool:
    ((locks,),) = history.rows(Sql("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, backfill_id)))
    return bool(locks)


def _weights(among: Range, step: int) -> Sql:
    """Group neighbouring workspaces: rows of ``(first workspace, last workspace, runs, number of workspaces)``.

    A group has at most one and a half times ``step`` runs; a group of small workspaces has about half of ``step``. A
    workspace with more than ``step`` is a group by itself. The statement reads the runs once. How many rows it returns
    depends on the number of runs, not of workspaces. A workspace's group follows from the sum of the runs before it,
    because filling one group after the other would need a loop.
    """
    return history.compose(
        """
        WITH weights AS MATERIALIZED (
            SELECT live.workspace, count(*) AS runs FROM {live} WHERE {where} GROUP BY live.workspace
        ), placed AS (
            SELECT workspace, runs, sum(runs) OVER (ORDER BY workspace) - runs AS before FROM weights
        ), steps AS (
            SELECT array_agg(workspace ORDER BY workspace) AS workspaces, sum(runs) AS runs
            FROM placed
            GROUP BY CASE WHEN runs > {step} THEN workspace END, div(before, {half})
        )
        SELECT workspaces[1]::text, workspaces[cardinality(workspaces)]::text, runs::bigint, cardinality(workspaces)
        FROM steps ORDER BY workspaces[1]
        """,
        live=history.fragments().history, where=among.where("live.workspace", "live.run"), step=step,
        half=max(step // 2, 1),
    )  # fmt: skip


def _cuts(heavy: Sequence[str], step: int) -> dict[str, list[str]]:
    """Where to cut heavy workspaces: at quantiles of the run's key, which never changes, unlike its time."""
    statement = history.compose(
        """
        SELECT workspace::text, run::text FROM (
            SELECT live.workspace, live.run,
                   row_number() OVER (PARTITION BY live.workspace ORDER BY live.run) AS position
            FROM {live} WHERE {where} AND live.workspace = ANY({heavy})
        ) AS numbered
        WHERE mod(position, {step}) = 0 ORDER BY numbered.workspace, numbered.run
        """,
        live=history.fragments().history, where=EVERYWHERE.where("live.workspace", "live.run"),
        heavy=history.keys(heavy, history.fragments().workspace_type), step=step,
    )  # fmt: skip
    cuts: dict[str, list[str]] = defaultdict(list)
    for workspace, run in history.rows(statement) if heavy else ():
        cuts[workspace].append(run)
    return cuts


def _pieces(step: Step, cuts: dict[str, list[str]], size: int) -> Iterator[Step]:
    """A step as it is, or the pieces of a heavy workspace. The last piece has no end."""
    at = cuts.get(step.first, []) if step.first == step.last else []
    if at and len(at) * size >= step.runs:
        at = at[:-1]
    for after, until in zip([None, *at], [*at, None], strict=True):
        runs = size if until is not None else step.runs - len(at) * size
        yield Step(step.first, after, step.last, until, runs)


def not_captured() -> str:
    """Why nothing may be planned now; empty if all writes are captured. The snapshot must come after the triggers: what
    was committed earlier is in the plan, and what comes later is in the change log."""
    problems = history.capture_problems()
    if not problems:
        return ""
    others = f"; {len(problems) - 1} more: manage.py recent_workflows health" if problems[1:] else ""
    return f"Not every write is captured, so nothing can be backfilled: {problems[0]}{others}."


def carry_out(backfill_id: int) -> None:
    """Plan a backfill and store its chunks, unless somebody else does. A failure pauses it."""
    with models.lock(backfill_id) as backfill:
        if backfill.status == BackfillStatus.ENQUEUED:
            store(backfill, status=BackfillStatus.PLANNING)
            record(backfill, "planning")
        elif backfill.status != BackfillStatus.PLANNING:
            return
    if problem := not_captured():
        _give_up(backfill_id, problem)
        return
    try:
        among = Range(first=backfill.first_workspace, last=backfill.last_workspace)
        its_plan = plan(among, chunk_size=backfill.chunk_size, backfill_id=backfill_id)
    except PlannedByAnother:
        return
    except (DatabaseError, InterfaceError) as error:
        connections[history.database()].close_if_unusable_or_obsolete()
        _give_up(backfill_id, f"planning failed: {history.brief(error)}")
        return
    _store(backfill_id, its_plan)


def _store(backfill_id: int, plan: Plan) -> None:
    if problem := not_captured():  # triggers were turned off meanwhile
        _give_up(backfill_id, problem)
        return
    with models.lock(backfill_id) as backfill:
        if backfill.planned_at is not None or backfill.status not in KEEPS_A_PLAN:
            return
        for kind, packs in ((Kind.FILL, plan.chunks), (Kind.VERIFY, plan.ranges)):
            models.chunks().bulk_create((_chunk(backfill, kind, steps) for steps in packs), batch_size=500)
        store(backfill, planned_at=plan.counted_at)
        record(backfill, "planned", f"{plan.runs:,} runs in {len(plan.chunks):,} chunks")
        if backfill.status == BackfillStatus.PLANNING:
            store(backfill, status=BackfillStatus.RUNNING)
            lifecycle.settle(backfill)


def _chunk(backfill: Backfill, kind: str, steps: Sequence[Step]) -> Chunk:
    whole = ranges.join(steps)
    return Chunk(
        backfill=backfill, kind=kind, planned=whole.runs, steps=list(map(list, steps)),
        first_workspace=whole.first, after_run=whole.after_run, last_workspace=whole.last, last_run=whole.last_run,
    )  # fmt: skip


def _give_up(backfill_id: int, why: str) -> None:
    with models.lock(backfill_id) as backfill:
        if backfill.status == BackfillStatus.PLANNING:
            lifecycle.pause(backfill, why)
