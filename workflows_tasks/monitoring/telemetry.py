"""Every log line and every metric in one place: the code says what happened, this module says it in words.

Counters and histograms are stored in each shard's row, because a worker's process may end after one task. The flush's
own transaction writes them. ``status``, Prometheus and the demo read the same numbers.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

log: Final = logging.getLogger("workflows_tasks")

BUCKETS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75,
    2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds; one more bucket is unbounded."""

COUNTERS: Final[Mapping[str, str]] = {
    "slices": "Transactions of flushes that flushed changes.",
    "changes": "Changes that were flushed.",
    "rows_advanced": "Rows written because a run is newer than what stood there.",
    "rows_recomputed": "Rows set to an older run because theirs was deleted, hidden, moved or backdated.",
    "rows_removed": "Rows removed because no run is left for them.",
    "scopes_split": "Scopes replaced by smaller ones because they named many runs.",
    "quarantined": "Changes that the database refused. They are tried again slowly.",
    "failures": "Flushes that failed. Their changes stayed in the log.",
    "lost_messages": "Flush messages that the tick found overdue and sent again.",
    "nudge_failures": "Times that a save could not reach Redis or the broker. The tick finds its change.",
    "drift": "Differences that no change explained, found by the audit, a backfill or verify. It should be 0.",
}
"""Counters since installation: name -> what it counts."""

HISTOGRAMS: Final[Mapping[str, str]] = {
    "commit_to_visible": "Seconds from the writing of a change until its row is committed.",
    "slice_seconds": "Seconds that one transaction of a flush took.",
}

UP: Final = "Whether the database answered, 1 or 0. If it did not, there are no other numbers."

GAUGES: Final[Mapping[str, str]] = {
    "pending": "Changes that wait for a flush, by shard.",
    "oldest_change_seconds": "Age of the oldest change that can be flushed, by shard.",
    "quarantine": "Changes in quarantine, by shard.",
    "failing": "1 where the flushes of a shard fail, by shard.",
}

PROCESS_GAUGES: Final[Mapping[str, str]] = {
    "tick_age_seconds": "Seconds since the last tick: beat's heartbeat.",
    "audit_age_seconds": "Seconds since the last step of the audit.",
    "capture_problems": "What keeps writes from being captured, as the last tick saw it. It should be 0.",
}


def observe(counters: dict[str, float], histogram: str, *values_s: float) -> None:
    """Add values to a histogram."""
    buckets = Counter(bisect_left(BUCKETS_S, value_s) for value_s in values_s)
    increments: dict[str, float] = {f"{histogram}:{bucket}": count for bucket, count in buckets.items()}
    for name, increment in {**increments, f"{histogram}:sum": sum(values_s)}.items():
        counters[name] = counters.get(name, 0) + increment


def histogram(counters: Mapping[str, float], name: str) -> list[float]:
    """How many values fell into each bucket, the unbounded one last."""
    return [counters.get(f"{name}:{bucket}", 0) for bucket in range(len(BUCKETS_S) + 1)]


def quantile_s(counts: list[float], q: float) -> float | None:
    """The ``q`` quantile of a histogram, by linear interpolation inside its bucket; None if it is empty."""
    rank = sum(counts) * q
    lower = 0.0
    for count, upper in zip(counts, (*BUCKETS_S, BUCKETS_S[-1]), strict=True):
        if count and rank <= count:
            return lower + (upper - lower) * rank / count
        rank -= count
        lower = upper
    return None


def merged(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of several shards' counters."""
    total: dict[str, float] = {}
    for each in counters:
        for name, value in each.items():
            total[name] = total.get(name, 0) + value
    return total


def slice_flushed(*, shard: int, changes: int, counts: Mapping[str, int], took_s: float) -> None:
    shown = "".join(f" {name}=%({name})d" for name, count in counts.items() if count)
    say(
        logging.INFO,
        "flushed shard=%(shard)d changes=%(changes)d took_s=%(took_s).3f" + shown,
        **counts, shard=shard, changes=changes, took_s=took_s,
    )  # fmt: skip


def flush_failed(error: BaseException, *, shard: int) -> None:
    say(
        logging.ERROR,
        "flush failed shard=%(shard)d error=%(error)s; its changes stay in the log",
        shard=shard, error=brief(error),
    )  # fmt: skip


def flush_recovered(*, shard: int) -> None:
    say(logging.WARNING, "flush recovered shard=%(shard)d", shard=shard)


def quarantined(*, shard: int, what: str, why: str) -> None:
    say(
        logging.ERROR,
        "change quarantined shard=%(shard)d %(what)s error=%(error)s (see: manage.py recent_workflows status)",
        shard=shard, what=printable(what), error=printable(why),
    )  # fmt: skip


def scope_split(*, shard: int, what: str, parts: int) -> None:
    say(
        logging.INFO,
        "scope split shard=%(shard)d %(what)s parts=%(parts)d",
        shard=shard, what=printable(what), parts=parts,
    )  # fmt: skip


def messages_lost(shards: list[int]) -> None:
    say(logging.WARNING, "flush messages lost shards=%(shards)s: sent again", shards=",".join(map(str, shards)))


def drift_found(*, differences: int, first: object) -> None:
    say(
        logging.ERROR,
        "drift=%(drift)d differences that no change explains; they are repaired. First: %(first)s",
        drift=differences, first=str(first),
    )  # fmt: skip


def range_not_compared(what: str, error: BaseException) -> None:
    say(logging.ERROR, "not compared %(what)s error=%(error)s", what=printable(what), error=brief(error))


def capture_problems(problems: list[str]) -> None:
    for problem in problems:
        say(logging.ERROR, "capture: %(problem)s", problem=printable(problem))


def capture_recovered() -> None:
    say(logging.WARNING, "capture: all writes are captured again")


def capture_turned_off() -> None:
    say(logging.WARNING, "capture: turned off; writes from now on leave no change")


def capture_not_installed(why: str) -> None:
    say(logging.ERROR, "capture: not installed: %(error)s", error=printable(why))


def rescan_begun(reason: str) -> None:
    say(
        logging.WARNING,
        "rescan: every workspace is looked at again, because %(reason)s",
        reason=printable(reason),
    )


def settings_changed() -> None:
    say(
        logging.ERROR,
        "settings: models, path, filter or grains differ from those that the table was kept for; "
        "run: manage.py recent_workflows triggers --install",
    )


def periodic_failed(error: BaseException, *, task: str) -> None:
    say(logging.ERROR, "%(task)s failed error=%(error)s; the next one tries again", task=task, error=brief(error))


def worker_is_slow(worker: str, why: str) -> None:
    say(logging.WARNING, "worker %(worker)s " + why, worker=worker)


def nudge_failed(what: str, error: BaseException, *, pause_s: float) -> None:
    say(
        logging.ERROR,
        "%(what)s does not answer; saves go on, and the tick finds their changes. Next try in %(pause_s).0f s. "
        "error=%(error)s",
        what=what, pause_s=pause_s, error=brief(error),
    )  # fmt: skip


def nudge_recovered(what: str) -> None:
    say(logging.WARNING, "%(what)s answers again", what=what)


def say(level: int, line: str, to: logging.Logger = log, /, **fields: float | str) -> None:
    """A line of the log, whose values are fields of the record too."""
    to.log(level, line, *([fields] if fields else []), extra=fields, stacklevel=2)


def printable(text: str) -> str:
    """Text of unknown origin, escaped so that every terminal and log file takes it as one line."""
    escaped = text.encode(errors="backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in escaped)


def brief(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {printable(lines[0]) if lines else ''}".strip()
