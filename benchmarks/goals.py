"""What was aimed at, and whether it was met: judged on one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import filling
from benchmarks.figures import Figures, one

GOAL_RATE: Final = 350
"""Saves a second that the goals speak of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One goal beside what was measured; ``met`` is None where it was not measured."""

    what: str
    goal: str
    measured: str
    met: bool | None

    def __str__(self) -> str:
        return f"{self.verdict:<12} {self.what}: {self.measured} (goal {self.goal})"

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, by its section, case, contender and unit, and its bound."""

    what: str
    section: str
    case: str
    contender: str
    unit: str
    most: float | None = None
    least: float | None = None

    def judge(self, figures: Figures) -> Judged:
        found = one(figures.every, section=self.section, case=self.case, contender=self.contender, unit=self.unit)
        bound = f"≤ {self.most:,.4g}" if self.most is not None else f"≥ {self.least:,g}"
        goal = f"{bound} {self.unit}"
        if found is None:
            return Judged(self.what, goal, "–", None)
        met = found.median <= self.most if self.most is not None else found.median >= (self.least or 0)
        spread = f" ({_number(found.low)} to {_number(found.high)})" if found.count > 1 else ""
        return Judged(self.what, goal, f"{_number(found.median)}{spread}", met)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


GOALS: Final[Sequence[Goal]] = (
    Goal(
        "save on a busy shard, against task.delay()", "save", "added", "ours, busy shard", "× task.delay()",
        most=0.15,
    ),
    Goal("save on a busy shard, against a PING", "save", "added", "ours, busy shard", "× the PING", most=0.6),
    Goal(
        "save on a busy shard, round trips", "save", "counts", "ours, busy shard", "Redis round trips a save",
        most=0.2,
    ),
    Goal(
        "save on a quiet shard, against task.delay()", "save", "added", "ours, quiet shard", "× task.delay()",
        most=1.3,
    ),
    Goal(
        "20,000 runs by one statement, 8 kB of state", "statement", "8 kB of state", "with triggers", "× without",
        most=1.15,
    ),
    Goal(
        "20,000 narrow runs by one statement", "statement", "the time of narrow rows", "with triggers", "× without",
        most=2.5,
    ),
    Goal("the same, temporary files", "statement", "8 kB of state", "with triggers", "MB of temporary files", most=0),
    Goal("freshness at 1 save/s, p50", "freshness", "1 saves/s", "ours", "p50 s", most=0.1),
    Goal("freshness at 10 saves/s, p50", "freshness", "10 saves/s", "ours", "p50 s", most=0.1),
    Goal("freshness at 10 saves/s, p99", "freshness", "10 saves/s", "ours", "p99 s", most=0.4),
    Goal("freshness at 350 saves/s, p99", "freshness", "350 saves/s", "ours", "p99 s", most=1.2),
    Goal("flush messages per save at 350 saves/s", "freshness", "350 saves/s", "ours", "messages/save", most=1 / 40),
    Goal("one worker, uniform keys", "flush", "uniform", "ours", "× a new connection a shard", least=0.8),
    Goal("one worker, uniform keys", "flush", "uniform", "ours", "runs/s", least=25_000),
    Goal("one worker, hot keys, against a task per save", "flush", "hot", "ours", "× a task per save", least=100),
    Goal("WAL of log and table", "save", "WAL", "all of ours", "% of the run's own", most=6),
    Goal("read, heaviest workspace, against DISTINCT ON", "read", "heaviest", "DISTINCT ON", "× ours", least=1_000),
    Goal("read, against a primary key look-up", "read", "middle", "recent_workflows()", "× look-up", most=1.2),
    *(
        Goal(f"fresh, {pending}", "fresh", pending, "recent_workflows(fresh=True)", "µs more than plain", most=60)
        for pending in (f"{count} pending in the shard" for count in (0, 10, 100))
    ),
    Goal(
        "backfill, 2 at a time on 2 cores", "backfill", "all of history", filling.VERIFIED, "× one statement", most=2,
    ),
    Goal(
        "the same with a covering index", "backfill", "all of history", filling.FILLED + filling.COVERING,
        "× one statement", most=1.1,
    ),
)  # fmt: skip


def judged(figures: Figures) -> list[Judged]:
    """Every goal."""
    return [goal.judge(figures) for goal in GOALS]
