"""What a backfill would do: counted in one snapshot, packed into chunks. Nothing here writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any, Final, NamedTuple

from django.db import connections, transaction

from backfill import spans, sql
from backfill.spans import Step
from workflows_tasks import conf, truth
from workflows_tasks.errors import RecentWorkflowsError
from workflows_tasks.host import host
from workflows_tasks.ids import encode
from workflows_tasks.sql.fragments import Workspaces

STEPS: Final = 20
"""Steps in a chunk, about. A workspace with more runs than a step is cut, so no chunk is larger than it should be, and
none is smaller than that by more than one step and a half."""

RUNS_PER_S: Final = 40_000
"""Runs that one worker fills in a second, for the estimate before anything was measured: docs/backfill.md."""


LOCK_CLASS: Final = 0x52574650
"""First key of the advisory lock that whoever plans a run holds; the second is the run."""

_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s, %s)"


class PlannedByAnother(RecentWorkflowsError):
    """A run is planned by one worker at a time."""


class Weight(NamedTuple):
    """A workspace, its key as text, and its runs."""

    workspace: str
    runs: int


class Magnitude(NamedTuple):
    """Workspaces with ``at_least`` runs or more, and fewer than ten times as many."""

    at_least: int
    workspaces: int
    runs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Chunks to fill and ranges to verify, each a list of steps; and what was seen on the way."""

    chunks: list[list[Step]]
    ranges: list[list[Step]]
    heaviest: list[Weight]
    histogram: list[Magnitude]
    chunk_size: int
    parallel: int
    counted_at: datetime
    """The watermark: runs that were committed before it are in the plan; later ones are announced by their save."""

    @property
    def runs(self) -> int:
        return sum(step.runs for chunk in self.chunks for step in chunk)

    @property
    def workspaces(self) -> int:
        return sum(magnitude.workspaces for magnitude in self.histogram)

    @property
    def largest(self) -> int:
        """Runs of the largest chunk."""
        return max((sum(step.runs for step in chunk) for chunk in self.chunks), default=0)

    @property
    def estimated_s(self) -> float:
        """Seconds of filling, before anything was measured."""
        return ceil(self.runs / RUNS_PER_S / max(min(self.parallel, len(self.chunks)), 1))

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "workspaces": self.workspaces,
            "chunks": [
                {
                    "first_workspace": whole.first, "after_run": whole.after_run,
                    "last_workspace": whole.last, "last_run": whole.last_run, "runs": whole.runs,
                }
                for whole in map(spans.joined, self.chunks)
            ],
            "largest_chunk": self.largest,
            "chunk_size": self.chunk_size,
            "parallel": self.parallel,
            "heaviest": [weight._asdict() for weight in self.heaviest],
            "histogram": [magnitude._asdict() for magnitude in self.histogram],
            "counted_at": self.counted_at.isoformat(),
            "estimated_s": self.estimated_s,
        }  # fmt: skip


def plan(
    workspaces: Workspaces, *, since: datetime | None, chunk_size: int, parallel: int, for_run: int | None = None
) -> Plan:
    """Count the runs of each workspace and pack them into chunks, all in one snapshot.

    Args:
        for_run: the run it is for, which is planned by one worker at a time.

    Raises:
        PlannedByAnother: somebody plans that run at this moment.
        django.db.OperationalError: it took longer than ``BACKFILL_PLAN_TIMEOUT_S``, or the database is not there.
    """
    size = max(chunk_size // STEPS, 1)
    with _snapshot():
        if for_run is not None and not truth.rows((_LOCK, [LOCK_CLASS, for_run]))[0][0]:
            raise PlannedByAnother(f"backfill {for_run} is being planned")
        ((counted_at,),) = truth.rows(("SELECT now()", []))
        seen: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for part, *rest in truth.rows(sql.weigh(workspaces, size, since)):
            seen[part].append(tuple(rest))
        heavy = [first for first, _, runs, count, _ in seen["step"] if runs > size and count == 1]
        cuts = _cuts(heavy, size, since)
    whole = [_whole(first, last, runs) for first, last, runs, *_ in seen["step"]]
    return Plan(
        chunks=list(spans.packed([piece for step in whole for piece in _pieces(step, cuts, size)], chunk_size)),
        ranges=list(spans.packed(whole, chunk_size)),
        heaviest=sorted(
            (Weight(spans.workspace_text(key), runs) for key, _, runs, *_ in seen["heaviest"]),
            key=lambda weight: -weight.runs,
        ),
        histogram=[Magnitude(10**power, count, runs) for _, _, runs, count, power in seen["magnitude"]],
        chunk_size=chunk_size,
        parallel=parallel,
        counted_at=counted_at,
    )


def _whole(first: Any, last: Any, runs: int) -> Step:
    return Step(spans.workspace_text(first), None, spans.workspace_text(last), None, runs)


def _cuts(heavy: Sequence[Any], size: int, since: datetime | None) -> dict[str, list[str]]:
    """Where heavy workspaces are cut: on quantiles of the run's key, which never changes, as its time does."""
    cuts: dict[str, list[str]] = defaultdict(list)
    for workspace, run in truth.rows(sql.quantiles(heavy, size, since)) if heavy else ():
        cuts[spans.workspace_text(workspace)].append(encode(run))
    return cuts


def _pieces(step: Step, cuts: dict[str, list[str]], size: int) -> Iterator[Step]:
    """A step as it is; or a heavy workspace's pieces, the last of which is open at its end."""
    at = cuts.get(step.first, []) if step.first == step.last else []
    if at and len(at) * size >= step.runs:
        at = at[:-1]
    for after, until in zip([None, *at], [*at, None], strict=True):
        runs = size if until is not None else step.runs - len(at) * size
        yield Step(step.first, after, step.last, until, runs)


@contextmanager
def _snapshot() -> Iterator[None]:
    """A transaction that reads, and sees one moment throughout, for as long as planning may take."""
    alias = host().database
    timeout_ms = round(conf.settings().backfill_plan_timeout_s * 1000)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        if not connections[alias].savepoint_ids:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL jit = off")
        yield
