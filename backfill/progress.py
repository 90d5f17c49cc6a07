"""How far a backfill is, how fast it goes, and why it waits: as values, for command, admin and machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Sum

from backfill import rows, states
from backfill.models import Chunk, Run
from backfill.states import ChunkStatus, Kind, RunStatus
from workflows_tasks import conf

MEASURED_AFTER_S: Final = 6.0
"""Seconds of progress after which a rate says something."""

FAILURES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Active:
    """A chunk that a worker has."""

    chunk: int
    kind: str
    extent: str
    worker: str
    done: int
    planned: int
    lease_s: float
    """Seconds until its lease expires, if nothing is heard of it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A chunk that could not be filled or verified."""

    chunk: int
    kind: str
    extent: str
    runs: list[str]
    error: str


@dataclass(frozen=True, slots=True)
class Phase:
    """Filling or verifying. Runs are those of the plan."""

    done: int
    planned: int
    chunks: dict[str, int]
    """How many chunks have each status."""
    rows: int
    drift: int

    @property
    def percent(self) -> float:
        """Never more than 100, and 100 only at the end."""
        return 100.0 * self.done / self.planned if self.planned else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment. Times in seconds; None where nobody can know yet."""

    run: Run
    fill: Phase
    verify: Phase
    runs_per_s: float | None
    eta_s: float | None
    reasons: list[str]
    active: list[Active]
    failures: list[Failure]

    @property
    def phase(self) -> Phase:
        """The one that it is in."""
        return self.verify if self.run.status == RunStatus.VERIFYING else self.fill

    def as_json(self) -> dict[str, Any]:
        run = self.run
        return {
            "id": run.pk,
            "status": run.status,
            "actor": run.actor,
            "first_workspace": run.first_workspace,
            "last_workspace": run.last_workspace,
            "since": _iso(run.since),
            "chunk_size": run.chunk_size,
            "parallel": run.parallel,
            "width": run.width,
            "created_at": _iso(run.created_at),
            "planned_at": _iso(run.planned_at),
            "finished_at": _iso(run.finished_at),
            "fill": {**asdict(self.fill), "percent": self.fill.percent},
            "verify": {**asdict(self.verify), "percent": self.verify.percent},
            "runs_per_s": self.runs_per_s,
            "eta_s": self.eta_s,
            "reasons": self.reasons,
            "error": run.error,
            "active": [asdict(each) for each in self.active],
            "failures": [asdict(each) for each in self.failures],
        }


def of(run: Run) -> Progress:
    """Read it all."""
    now = rows.database_time()
    runs_per_s = _rate(run, now)
    progress = Progress(
        run=run,
        fill=_phase(run, Kind.FILL),
        verify=_phase(run, Kind.VERIFY),
        runs_per_s=runs_per_s,
        eta_s=None,
        reasons=_reasons(run, now),
        active=[_active(chunk, now) for chunk in rows.active(run).order_by("id")],
        failures=[
            _failure(c) for c in rows.chunks(run).filter(status=ChunkStatus.FAILED).order_by("id")[:FAILURES_SHOWN]
        ],
    )
    left = progress.phase.planned - progress.phase.done
    eta_s = left / runs_per_s if runs_per_s else None
    return Progress(**{name: getattr(progress, name) for name in Progress.__slots__} | {"eta_s": eta_s})


def counted(run: Run, kind: str) -> tuple[int, int]:
    """``(done, planned)`` runs of a phase."""
    found = rows.chunks(run).filter(kind=kind).aggregate(done=Sum("passed"), planned=Sum("planned"))
    return int(found["done"] or 0), int(found["planned"] or 0)


def _phase(run: Run, kind: str) -> Phase:
    of_kind = rows.chunks(run).filter(kind=kind)
    done, planned = counted(run, kind)
    sums = of_kind.aggregate(rows=Sum("rows"), drift=Sum("drift"))
    statuses = Counter(of_kind.values_list("status", flat=True))
    return Phase(done, planned, dict(sorted(statuses.items())), int(sums["rows"] or 0), int(sums["drift"] or 0))


def _rate(run: Run, now: datetime) -> float | None:
    """Runs a second over the last ticks; None until they say something."""
    if run.status not in states.WORKING or len(run.samples) < 2:
        return None
    (since_s, before), (until_s, done) = run.samples[0], run.samples[-1]
    took_s = until_s - since_s
    return (done - before) / took_s if took_s >= MEASURED_AFTER_S and done > before else None


def _reasons(run: Run, now: datetime) -> list[str]:
    """Why it waits, or does less than it was asked to."""
    if not run.is_open:
        return []
    settings = conf.settings()
    reasons = [run.waiting] if run.waiting else []
    current = rows.current()
    if current is not None and current.pk != run.pk:
        return [f"waits for backfill {current.pk}, which is {current.status}"]
    looked_s = (now - (run.ticked_at or run.created_at)).total_seconds()
    if looked_s > 5 * settings.backfill_tick_s:
        reasons.append(f"nobody looked after it for {looked_s:.0f} s: is celery beat running, and a worker on the "
                       f"queue {settings.queue}?")  # fmt: skip
    elif run.sent_at and not rows.active(run).exists() and run.status in {*states.WORKING, RunStatus.ENQUEUED}:
        waited_s = (now - (run.planned_at or run.created_at)).total_seconds()
        if waited_s > 5 * settings.backfill_tick_s and not run.waiting:
            reasons.append(f"no worker has a chunk: is one running on the queue {settings.backfill_queue}?")
    return reasons


def _active(chunk: Chunk, now: datetime) -> Active:
    left_s = (chunk.lease_until - now).total_seconds() if chunk.lease_until else 0.0
    return Active(
        chunk.pk, chunk.kind, chunk.extent, chunk.worker, chunk.passed, chunk.planned, round(max(left_s, 0.0), 1)
    )


def _failure(chunk: Chunk) -> Failure:
    return Failure(chunk.pk, chunk.kind, chunk.extent, chunk.failed_runs, chunk.error)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
