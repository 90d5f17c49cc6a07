"""Every log line and every metric, in one place: the code says what happened, this module how it is told.

Counters and histograms are kept in Redis beside the inbox, not in processes (but for ``tally``, while Redis is away): a
host may run one task per process, and ``status``, Prometheus and the demo all read the same numbers. ``flushed``
returns the increments of one flush; ``inbox.acknowledge`` adds them in the round trip that it makes anyway.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

log: Final = logging.getLogger("workflows_tasks")

BUCKETS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75,
    2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds; one more bucket is unbounded."""

COUNTERS: Final[Mapping[str, str]] = {
    "flushes": "Flushes that ended with an acknowledgement.",
    "flushed_runs": "Run ids that flushes took from the inbox.",
    "rows_raised": "Rows written because a run is newer than what stood there.",
    "rows_lowered": "Rows set back to an older run because theirs was deleted, hidden, moved or backdated.",
    "rows_removed": "Rows removed because no run is left for them.",
    "handed_on": "Run ids handed to another shard, where the rows are that they concern.",
    "set_aside": "Run ids that could not be written and wait for drain --retry.",
    "retries": "Transactions tried again after a deadlock, serialization failure or lock timeout.",
    "failures": "Flushes that failed; their claim went back to the inbox.",
    "released": "Claims put back: failed flushes, and those whose worker is gone.",
    "healed": "Changes whose announcement was lost, found by the sweep. The loss metric: 0 is right.",
    "drift": "Differences that the audit, a backfill's verification or verify --repair found and announced.",
    "dropped": "Run ids not added because their shard's inbox was full; the sweep finds them.",
    "shadow_reads": "Reads whose old answer was compared with the table's, before the switch.",
    "shadow_different": "Of those, reads that differ for no reason that passes.",
    "shadow_pending": "Of those, reads that differ while one of their runs waits for a flush.",
    "shadow_uncovered": "Of those, reads that differ in a workspace whose history is not filled yet.",
    "save_failures": "Attempts beside saves that failed: Redis or the broker did not answer, or a receiver erred. At "
    "least so many: an outage of Redis is counted when it answers that process again.",
    "undelivered": "Run ids that saves could neither announce nor keep while Redis did not answer; the sweep's.",
}
"""Counters since the inbox was created: name -> what it counts."""

HISTOGRAMS: Final[Mapping[str, str]] = {
    "commit_to_visible": "Seconds from the announcement of a committed change until its row is committed.",
    "flush_seconds": "Seconds a flush took, from its claim to its last commit.",
}

UP: Final = "Whether Redis answered, 1 or 0; if not there are no other numbers."

GAUGES: Final[Mapping[str, str]] = {
    "pending": "Run ids waiting for a flush.",
    "oldest_pending_seconds": "Age of the oldest waiting run id.",
    "claims": "Claims not acknowledged yet.",
    "oldest_claim_seconds": "Age of the oldest claim; past the lease its worker is gone.",
    "aside": "Run ids set aside.",
}


def flushed(
    *, shard: int, runs: int, counts: Mapping[str, int], lags_s: Iterable[float], seconds: float
) -> dict[str, float]:
    """A batch was written and committed; returns what to add to the shard's stats.

    Args:
        counts: rows and ids by counter name; zeros are left out.
        lags_s: for each run, the seconds from its announcement to the commit.
        seconds: the batch's duration.
    """
    told = {name: count for name, count in counts.items() if count}
    log.info(
        "flushed shard=%d runs=%d seconds=%.3f %s",
        shard, runs, seconds, " ".join(f"{name}={count}" for name, count in told.items()),
    )  # fmt: skip
    stats: dict[str, float] = {"flushes": 1, "flushed_runs": runs, **told}
    for lag_s in lags_s:
        _observe(stats, "commit_to_visible", max(lag_s, 0.0))
    _observe(stats, "flush_seconds", seconds)
    return stats


def _observe(stats: dict[str, float], histogram: str, value_s: float) -> None:
    bucket = bisect_left(BUCKETS_S, value_s)
    for name, increment in ((f"{histogram}:{bucket}", 1), (f"{histogram}:sum", value_s)):
        stats[name] = stats.get(name, 0) + increment


def histogram(stats: Mapping[str, float], name: str) -> list[float]:
    """How many values fell into each bucket, the unbounded one last."""
    return [stats.get(f"{name}:{bucket}", 0) for bucket in range(len(BUCKETS_S) + 1)]


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


def merged(stats: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of several shards' stats."""
    total: dict[str, float] = {}
    for each in stats:
        for name, value in each.items():
            total[name] = total.get(name, 0) + value
    return total


def retrying(error: Exception, *, shard: int, attempt: int) -> None:
    log.warning("retrying shard=%d attempt=%d error=%s", shard, attempt, _brief(error))


def flush_failed(error: Exception, *, shard: int, runs: int) -> None:
    log.error("flush failed shard=%d runs=%d released=yes error=%s", shard, runs, _brief(error), exc_info=error)


def claim_lost(error: Exception) -> None:
    log.warning("flush ended without writing: %s", error)


def run_set_aside(run: str, why: str, *, shard: int) -> None:
    log.error(
        "run set aside shard=%d run=%s why=%s (see: manage.py recent_workflows status)",
        shard, printable(run), printable(why),
    )  # fmt: skip


def rescued(*, shard: int, released: int) -> None:
    log.warning("rescued shard=%d claims=%d: their workers did not acknowledge within the lease", shard, released)


def repaired(*, counter: str, runs: int) -> None:
    log.warning("%s=%d: announced now; an announcement was lost, or a write was not announced", counter, runs)


def inbox_failed(error: Exception, *, pause_s: float) -> None:
    log.error(
        "inbox does not answer; saves go on without it. Their runs are announced when it does, or found by the sweep. "
        "Next try in %.0f s. error=%s",
        pause_s, _brief(error),
    )  # fmt: skip


def inbox_recovered() -> None:
    log.warning("inbox answers again, and has what this process kept meanwhile")


def inbox_full(dropped: int) -> None:
    log.error("inbox full; dropped=%d runs wait for the sweep. Are workers running on the live queue?", dropped)


def broker_failed(error: Exception, *, pause_s: float) -> None:
    log.error(
        "flush message not sent; the rescuer will find the shard. Next try in %.0f s. error=%s", pause_s, _brief(error)
    )


def broker_recovered() -> None:
    log.warning("broker answers again")


def announcement_failed(error: Exception) -> None:
    log.error("a run was not announced; it waits for the sweep. error=%s", _brief(error), exc_info=error)


def printable(text: str) -> str:
    """Text from Redis, which anybody may have put there, so that every terminal and log file takes it on one line."""
    escaped = text.encode(errors="backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in escaped)


def _brief(error: BaseException) -> str:
    said = str(error).strip()
    return f"{type(error).__name__}: {printable(said.splitlines()[0]) if said else ''}"
