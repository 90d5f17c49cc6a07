"""The state of everything at this moment, as values for the commands, the admin and Prometheus."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Final

from workflows_tasks.models import Installation, Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog
from workflows_tasks.projection.backlog import Quarantined
from workflows_tasks.projection.fragments import compose, fragments
from workflows_tasks.sql import quoted, rows

QUARANTINED_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard. Ages in seconds; None where there was nothing yet."""

    shard: int
    pending: int
    scopes: int
    oldest_s: float | None
    quarantined: int
    flushed_s: float | None = None
    """Since a flush last committed a slice."""
    due_in_s: float | None = None
    """Until the next flush; None if none is to come. Below 0 it is overdue."""
    error: str = ""
    failing_s: float | None = None
    counters: dict[str, float] = field(default_factory=dict)

    @property
    def is_failing(self) -> bool:
        """Its flushes fail. An error counts only while changes wait, as a TRUNCATE may have emptied the log."""
        return bool(self.error and self.pending)

    @property
    def gauges(self) -> dict[str, float]:
        """By the names of ``telemetry.GAUGES``."""
        return {
            "pending": self.pending, "oldest_change_seconds": self.oldest_s or 0.0, "quarantine": self.quarantined,
            "failing": float(self.is_failing),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Status:
    """All shards, the table, and the heartbeats. Ages in seconds."""

    shards: list[ShardStatus]
    rows: int
    """PostgreSQL's own estimate, for counting takes seconds; 0 before the table is first analyzed."""
    tick_s: float | None
    """Since the last tick; None if there was none."""
    audit_s: float | None
    capture_problems: list[str]
    """As the last tick saw them."""
    rescan: str
    """Why every workspace is to be looked at again; empty if none is."""
    lacks_history: bool
    """Runs from before capture are not all in the table."""
    audit_findings: list[str]
    """What the audit found in this round, the newest first."""
    quarantined: list[Quarantined]
    """The oldest ones."""

    @property
    def pending(self) -> int:
        return sum(shard.pending for shard in self.shards)

    @property
    def oldest_s(self) -> float:
        return max((shard.oldest_s or 0.0 for shard in self.shards), default=0.0)

    @property
    def in_quarantine(self) -> int:
        return sum(shard.quarantined for shard in self.shards)

    @property
    def flushed_s(self) -> float | None:
        """Seconds since the last flush of any shard."""
        return min((shard.flushed_s for shard in self.shards if shard.flushed_s is not None), default=None)

    @property
    def failing(self) -> dict[str, list[ShardStatus]]:
        """The errors of flushes, each with its shards."""
        met: dict[str, list[ShardStatus]] = {}
        for shard in self.shards:
            if shard.is_failing:
                met.setdefault(shard.error, []).append(shard)
        return met

    @property
    def counters(self) -> dict[str, float]:
        """Counters and histograms of all shards together."""
        return telemetry.merged(shard.counters for shard in self.shards)

    @property
    def gauges(self) -> dict[str, float]:
        """By the names of ``telemetry.PROCESS_GAUGES``. What never was is infinite, so that an alert sees it."""
        ages = {"tick_age_seconds": self.tick_s, "audit_age_seconds": self.audit_s}
        return {
            **{name: inf if age_s is None else age_s for name, age_s in ages.items()},
            "capture_problems": len(self.capture_problems),
        }

    def visible_s(self, q: float) -> float | None:
        """A quantile of the time from commit to visible, over all that was flushed so far."""
        return telemetry.quantile_s(telemetry.histogram(self.counters, "commit_to_visible"), q)

    @property
    def visible_is_past(self) -> bool:
        """The quantiles say nothing about now, because the oldest change has waited longer than 99 % of all others."""
        p99_s = self.visible_s(0.99)
        return p99_s is not None and self.oldest_s > p99_s

    def as_json(self) -> dict[str, Any]:
        copied = ("pending", "oldest_s", "in_quarantine", "rows", "tick_s", "audit_s", "capture_problems", "rescan",
                  "lacks_history", "audit_findings")  # fmt: skip
        quantiles = {"visible_p50_s": 0.50, "visible_p99_s": 0.99}
        return {
            **{name: getattr(self, name) for name in copied},
            **{name: None if self.visible_is_past else self.visible_s(q) for name, q in quantiles.items()},
            "quarantined": [each._asdict() for each in self.quarantined],
            "counters": {name: self.counters.get(name, 0) for name in telemetry.COUNTERS},
            "shards": [{k: v for k, v in asdict(shard).items() if k != "counters"} for shard in self.shards],
        }


def status() -> Status:
    """Read everything. Writes nothing, so a standby can be asked too."""
    kept = _kept()
    shards = [
        ShardStatus(each.shard, each.pending, each.scopes, each.oldest_s, each.quarantined, **kept.get(each.shard, {}))
        for each in backlog.status()
    ]
    quarantined = backlog.quarantined(QUARANTINED_SHOWN) if any(shard.quarantined for shard in shards) else []
    return Status(shards, _rows(), **_installation(), quarantined=quarantined)


def _kept() -> dict[int, dict[str, Any]]:
    """What flushes keep in the shards' rows. Ages by the server's clock: this machine's may differ."""
    statement = compose(
        """SELECT number, extract(epoch FROM clock_timestamp() - flushed_at)::float8,
            extract(epoch FROM due_at - clock_timestamp())::float8, error,
            extract(epoch FROM clock_timestamp() - failing_since)::float8, counters::text FROM {shards}""",
        shards=quoted(Shard._meta.db_table),
    )  # fmt: skip
    names = ("flushed_s", "due_in_s", "error", "failing_s", "counters")
    return {
        number: dict(zip(names, (*told, json.loads(counters)), strict=True))
        for number, *told, counters in rows(statement)
    }


def _installation() -> dict[str, Any]:
    statement = compose(
        """SELECT extract(epoch FROM clock_timestamp() - ticked_at)::float8,
            extract(epoch FROM clock_timestamp() - audited_at)::float8, problems::text,
            CASE WHEN rescan_waits_for IS NULL THEN '' ELSE rescan_reason END, lacks_history, audit_findings::text
        FROM {installation} WHERE id = {only}""",
        installation=quoted(Installation._meta.db_table), only=Installation.ONLY,
    )  # fmt: skip
    never = (None, None, "[]", "", False, "[]")
    tick_s, audit_s, problems, rescan, lacks_history, findings = next(iter(rows(statement)), never)
    return {
        "tick_s": tick_s, "audit_s": audit_s, "capture_problems": json.loads(problems), "rescan": rescan,
        "lacks_history": bool(lacks_history), "audit_findings": json.loads(findings),
    }  # fmt: skip


def _rows() -> int:
    estimate = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = '{table}'::regclass"
    ((estimated,),) = rows(compose(estimate, table=fragments().table))
    return int(estimated)


def names(shards: Sequence[ShardStatus]) -> str:
    """Shards for people: ``shard 3``, ``shards 0, 1, 2``, ``9 shards``."""
    if len(shards) > 8:
        return counted(len(shards), "shard")
    return f"shard{'s' * (len(shards) > 1)} {', '.join(str(shard.shard) for shard in shards)}"


def counted(number: float, noun: str) -> str:
    """``1 change``, ``2,000 changes``."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def age(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "-"
    for unit_s, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * max(unit_s, 300):
            return f"{seconds / unit_s:,.0f} {unit}"
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:,.2f} s"


def ago(seconds: float | None) -> str:
    """The age of something that may never have been."""
    return "never" if seconds is None else f"{age(max(seconds, 0.0))} ago"
