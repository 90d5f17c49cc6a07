"""How far a backfill is, how fast it goes, and why it waits, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Max, Sum

from backfill import models
from backfill.models import Backfill, Chunk
from backfill.states import BackfillStatus, ChunkStatus, Kind
from workflows_tasks import conf

MOST_LISTED: Final = 20
"""At most so many chunks of each kind are listed."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Filling or verifying. Runs are those of the plan."""

    done: int = 0
    planned: int = 0
    rows: int = 0
    drift: int = 0
    seconds: float = 0.0
    """That its transactions took, of all workers together."""
    chunks: dict[str, int] | None = None
    """How many chunks have each status."""

    @property
    def percent(self) -> float:
        """100 only at the end."""
        return 1_000 * self.done // self.planned / 10 if self.planned else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A backfill at one moment. A figure is None if nobody can know it yet."""

    backfill: Backfill
    fill: Phase
    verify: Phase
    reasons: list[str]
    """Why it waits."""
    active: list[Chunk]
    """Chunks that a worker has."""
    retrying: list[Chunk]
    """Chunks that failed and are to be tried again; one more than are listed, where there are more."""
    failures: list[Chunk]
    """Chunks that failed for good; the same."""
    runs_per_s: float | None = None
    eta_s: float | None = None

    @property
    def phase(self) -> Phase:
        """The phase that it is in."""
        return self.verify if self.backfill.status == BackfillStatus.VERIFYING else self.fill

    @property
    def waits(self) -> bool:
        """Whether nobody works on it, for a reason."""
        return bool(self.reasons or self.retrying) and not self.active

    def as_json(self) -> dict[str, Any]:
        backfill = self.backfill
        copied = ("status", "actor", "first_workspace", "last_workspace", "chunk_size", "concurrency", "error")
        moments = ("created_at", "planned_at", "finished_at")
        return {
            "id": backfill.pk,
            **{name: getattr(backfill, name) for name in copied},
            **{name: (at := getattr(backfill, name)) and at.isoformat() for name in moments},
            "fill": {**asdict(self.fill), "percent": self.fill.percent},
            "verify": {**asdict(self.verify), "percent": self.verify.percent},
            "runs_per_s": self.runs_per_s,
            "eta_s": self.eta_s,
            "reasons": self.reasons,
            **{name: [each.as_json() for each in getattr(self, name)] for name in ("active", "retrying", "failures")},
        }


def of(backfill: Backfill) -> Progress:
    """Read the progress of a backfill."""
    now = models.database_time()
    retrying = models.chunks(backfill).filter(status=ChunkStatus.PENDING).exclude(error="")
    failed = models.chunks(backfill).filter(status=ChunkStatus.FAILED)
    progress = Progress(
        backfill=backfill,
        fill=phase(backfill, Kind.FILL),
        verify=phase(backfill, Kind.VERIFY),
        reasons=_reasons(backfill, now),
        active=list(models.active(backfill).order_by("id")),
        retrying=list(retrying.order_by("id")[: MOST_LISTED + 1]) if not backfill.has_ended else [],
        failures=list(failed.order_by("id")[: MOST_LISTED + 1]),
    )
    now_in = progress.phase
    runs_per_s = len(progress.active) * now_in.done / now_in.seconds if now_in.seconds else 0.0
    if not runs_per_s:
        return progress
    return replace(progress, runs_per_s=runs_per_s, eta_s=(now_in.planned - now_in.done) / runs_per_s)


def phase(backfill: Backfill, kind: str) -> Phase:
    """Sum up its chunks of one kind."""
    sums = {name: Sum(name) for name in ("passed", "planned", "rows", "drift", "seconds")}
    of_kind = models.chunks(backfill).filter(kind=kind).values("status").order_by("status")
    by_status = list(of_kind.annotate(count=Count("id"), **sums))
    totals: dict[str, Any] = {name: sum(each[name] for each in by_status) for name in sums}
    counts = {each["status"]: each["count"] for each in by_status}
    return Phase(done=totals.pop("passed"), chunks=counts, **totals)


def _reasons(backfill: Backfill, now: datetime) -> list[str]:
    if backfill.has_ended:
        return []
    current = models.current()
    if current is not None and current.pk != backfill.pk:
        return [f"waits for backfill {current.pk}, which is {current.status}"]
    settings = conf.settings()
    silent_s = (now - (backfill.ticked_at or backfill.created_at)).total_seconds()
    if silent_s > 5 * settings.tick_period_s:
        is_there = f"is celery beat running, and a worker on the queue {settings.queue}?"
        return [f"no tick looked after it for {silent_s:.0f} s: {is_there}"]
    if backfill.waiting:
        return [backfill.waiting]
    if _lacks_worker(backfill, now):
        return [f"no worker has a chunk: is one running on the queue {settings.backfill_queue}?"]
    return []


def _lacks_worker(backfill: Backfill, now: datetime) -> bool:
    """Whether there is something to do, and no worker came for a while."""
    settings = conf.settings()
    until = models.chunks(backfill).aggregate(last=Max("lease_until"))["last"]
    seen_at = until - timedelta(seconds=settings.backfill_lease_s) if until else backfill.created_at
    if (now - seen_at).total_seconds() <= 5 * settings.tick_period_s:
        return False
    if backfill.status == BackfillStatus.ENQUEUED:
        return True
    return models.claimable(backfill).exists() and not models.active(backfill).exists()
