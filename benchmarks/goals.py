"""What was aimed at, and whether it was met: judged on the longest history of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.figures import Figures, one

GOAL_RATE: Final = 350
"""Saves a second that the goals speak of."""

REACHED: Final = 0.95
"""A load counts as made if so much of it came about."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One goal beside what was measured; ``met`` is None where it was not measured."""

    what: str
    goal: str
    measured: str
    met: bool | None
    why: str
    """Which limit stands in the way where it is missed."""

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
    why: str = ""

    def judge(self, figures: Figures) -> Judged:
        found = one(figures.every, section=self.section, case=self.case, contender=self.contender, unit=self.unit)
        bound = f"≤ {self.most:,.4g}" if self.most is not None else f"≥ {self.least:,g}"
        goal = f"{bound} {SHOWN.get(self.unit, self.unit)}"
        if found is None:
            return Judged(self.what, goal, "–", None, "")
        met = found.median <= self.most if self.most is not None else found.median >= (self.least or 0)
        spread = f" ({_number(found.low)} to {_number(found.high)})" if found.count > 1 else ""
        return _if_reached(self, figures, Judged(self.what, goal, f"{_number(found.median)}{spread}", met, self.why))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


SHOWN: Final[Mapping[str, str]] = {
    "p50 s": "s", "p99 s": "s", "SQL statements added": "statements", "messages/save": "a save",
    "× a new connection a shard": "×",
    "× ours": "×", "× look-up": "×", "× task.delay()": "×", "× celery-batches": "×", "× p95 without": "×",
    "× one statement": "×",
}  # fmt: skip


def _if_reached(goal: Goal, figures: Figures, judged: Judged) -> Judged:
    """What speaks of a load is judged only if the machine could make that load."""
    achieved = one(figures.every, section="freshness", case=goal.case, unit="saves/s")
    if achieved is None or achieved.median >= REACHED * GOAL_RATE:
        return judged
    why = f"only {achieved.median:.0f} saves a second came about"
    return replace(judged, met=None, why=why)


_READ = "recent_workflows()"
_OVERHEAD = "Django, which builds a query of two conditions, an order and a limit; as SQL alone see the table below"

GOALS: Final[Sequence[Goal]] = (
    Goal(
        "read, heaviest workspace", "read", "heaviest, 4 rows, warm", "DISTINCT ON", "× ours", least=1_000,
        why="DISTINCT ON grows with the history, so the ratio does: see growth",
    ),
    Goal(
        "read, heaviest workspace, against a primary key look-up", "read", "heaviest, 4 rows, warm", _READ,
        "× look-up", most=1.3, why=_OVERHEAD,
    ),
    Goal("read, 4 rows returned", "read", "middle, 4 rows, warm", _READ, "× look-up", most=1.3, why=_OVERHEAD),
    Goal(
        "save, added p50, against task.delay()", "save", "added", "ours", "× task.delay()", most=0.25,
        why="half or more of what a save has added is a round trip to Redis by redis-py, for which the PING in the "
        "table below stands, and which a message is, too; Redis on loopback and a parser in C make one cheap here. The "
        "rest: see the next line",
    ),
    Goal(
        "save, added p50", "save", "added", "ours", "µs", most=100,
        why="half or more is the PING in the table below. The script and its longer command take some 30 µs more, "
        "gathering, hook and hand-over some 50: 8 in a tight loop, but in a save code and data have left the "
        "processor's caches",
    ),
    Goal("save, SQL statements added", "save", "counts per save", "ours", "SQL statements added", most=0),
    Goal(
        "flush messages per save", "freshness", "350 saves/s", "ours", "messages/save", most=1 / 40,
        why="8 shards and a window of 1 s: 8 messages a second at most",
    ),
    Goal(
        "one worker, hot keys", "write-behind", "hot", "ours", "× celery-batches", least=10,
    ),
    Goal(
        "one worker, uniform keys", "write-behind", "uniform", "ours", "× one statement", least=0.8,
        why="the statement neither compares before it locks, nor looks after its commit, nor takes ids from Redis; and "
        "it has one connection. Celery closes a worker's after each task, so each flush has a new PostgreSQL process, "
        "which meets every page for the first time: 127,000 page faults in 40,000 runs, where one that is kept has 3",
    ),
    Goal(
        "the same, against a statement a shard on new connections", "write-behind", "uniform", "ours",
        "× a new connection a shard", least=0.8,
        why="of a flush's time the look after the commit is a sixth, the comparison before the write a tenth, Redis a "
        "twentieth; and a tenth of the worker's goes into messages and the measuring beside it",
    ),
    Goal(
        "WAL of the table per save, 40 runs under way", "save", "WAL, 40 under way, state 8 kB", "ours",
        "% of the run's own", most=3,
    ),
    Goal(
        "WAL of the table per save, 350 runs under way", "save", "WAL, 350 under way, state 8 kB", "ours",
        "% of the run's own", most=3,
        why="each run is saved once a window, so nothing coalesces: two rows with five index entries each",
    ),
    Goal(
        "backfill, 2 at a time on 2 cores", "backfill", "all of history", "ours, 2 at a time", "× one statement",
        most=1.25,
        why="the rival reads the table once from end to end, and neither verifies nor may run beside live writes. "
        "Workers read it by workspace, whose runs lie all over it: see [backfill](backfill.md#how-fast)",
    ),
    Goal(
        "the same, with the index that `plan` advises", "backfill", "all of history",
        "ours, 2 at a time, with the index that plan advises", "× one statement", most=1.25,
        why="everything is read a second time to verify it",
    ),
    Goal("freshness at 350 saves/s, p50", "freshness", "350 saves/s", "ours", "p50 s", most=1.5),
    Goal("freshness at 350 saves/s, p99", "freshness", "350 saves/s", "ours", "p99 s", most=3),
    Goal("the same during a backfill, p50", "freshness", "350 saves/s, backfill", "ours", "p50 s", most=1.5),
    Goal(
        "p95 during a backfill, against without", "freshness", "350 saves/s, backfill", "ours", "× p95 without",
        most=1.25, why="two more processes and their database sessions on the same two cores",
    ),
    Goal("the same during a backfill, p99", "freshness", "350 saves/s, backfill", "ours", "p99 s", most=3),
)  # fmt: skip


def judged(scales: Sequence[Figures]) -> list[Judged]:
    """Every goal; the read's plan among them."""
    figures = scales[-1]
    every = [goal.judge(figures) for goal in GOALS]
    every.insert(3, _plan(figures))
    return every


def _plan(figures: Figures) -> Judged:
    goal = "index-only, rows read = rows returned"
    nodes = figures.notes.get("plan")
    if not nodes:
        return Judged("read, plan", goal, "–", None, "")
    limit, scan = nodes[0], nodes[-1]
    fine = (
        scan["Node Type"] == "Index Only Scan"
        and scan["Actual Rows"] == limit["Actual Rows"]
        and not scan["Heap Fetches"]
    )
    told = f"{scan['Node Type']}, {scan['Actual Rows']:.0f} read, {limit['Actual Rows']:.0f} returned"
    return Judged("read, plan", goal, told, fine, "")
