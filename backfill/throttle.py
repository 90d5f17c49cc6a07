"""How live traffic is, and what a backfill should do about it. Reasons are sentences, for people to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from django.db import DatabaseError
from django.utils.module_loading import import_string

from workflows_tasks import conf, history


class Effect(IntEnum):
    """What a reason is a reason for; the strongest counts."""

    NONE = 0
    HOLD = 1
    """Do not grow: a signal cannot be asked, so nobody knows."""
    SHED = 2
    """Work on one chunk fewer, but on one at least."""
    STOP = 3
    """Begin no further transaction."""


class Reason(NamedTuple):
    effect: Effect
    text: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """All reasons there are at one moment."""

    reasons: tuple[Reason, ...] = ()

    @property
    def effect(self) -> Effect:
        return max((reason.effect for reason in self.reasons), default=Effect.NONE)

    @property
    def stops(self) -> bool:
        return self.effect == Effect.STOP

    @property
    def may_grow(self) -> bool:
        return self.effect == Effect.NONE

    def concurrency(self, now: int, wanted: int) -> int:
        """Chunks that may be worked on, after ``now``: one more or one fewer than that, never all at once."""
        if self.effect >= Effect.SHED:
            return max(min(now, wanted) - 1, 1)
        return min(now + 1, wanted) if self.may_grow else min(now, wanted)

    def __str__(self) -> str:
        return "; ".join(reason.text for reason in self.reasons)


def look() -> Throttle:
    """Ask every signal. None of them can fail a backfill: what cannot be asked keeps it from growing."""
    signals: tuple[Callable[[], Iterator[Reason]], ...] = (_change_log, _replicas, _lock_waits, _of_the_host)
    return Throttle(tuple(reason for signal in signals for reason in signal()))


def _change_log() -> Iterator[Reason]:
    settings = conf.settings()
    age_s = yield from _asked("the change log", history.oldest_change_s)
    if age_s is None:
        return
    if age_s > settings.backfill_stop_s:
        yield Reason(Effect.STOP, f"live changes wait for {age_s:.1f} s (limit {settings.backfill_stop_s:g} s)")
    elif age_s > settings.backfill_shed_s:
        yield Reason(Effect.SHED, f"live changes wait for {age_s:.1f} s (limit {settings.backfill_shed_s:g} s)")


_REPLICA: Final = """
    SELECT application_name, extract(epoch FROM replay_lag)::float8 AS lag_s
    FROM pg_stat_replication WHERE replay_lag IS NOT NULL ORDER BY lag_s DESC LIMIT 1
"""

_LOCK_WAITS: Final = """
    SELECT count(DISTINCT waiting.pid)
    FROM pg_locks AS waiting JOIN pg_locks AS held USING (pid)
    WHERE NOT waiting.granted AND held.granted AND held.locktype IN ('relation', 'tuple')
      AND held.relation = {table}::regclass AND held.mode <> 'AccessShareLock'
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _replicas() -> Iterator[Reason]:
    limit_s = conf.settings().backfill_replication_lag_s
    rows = yield from _asked("replicas", lambda: history.rows(history.Sql(_REPLICA)))
    for name, lag_s in rows or ():
        if lag_s > limit_s:
            yield Reason(Effect.STOP, f"replica {name} is {lag_s:.1f} s behind (limit {limit_s:g} s)")


def _lock_waits() -> Iterator[Reason]:
    table = history.value(history.fragments().table)
    rows = yield from _asked("locks", lambda: history.rows(history.compose(_LOCK_WAITS, table=table)))
    for (count,) in rows or ():
        if count:
            yield Reason(Effect.SHED, f"{count} sessions that write the table wait for locks")


def _asked(what: str, ask: Callable[[], Any]) -> Any:
    """The answer of a signal; None, and a reason, where it has none."""
    try:
        return ask()
    except DatabaseError as error:
        yield Reason(Effect.HOLD, f"{what} cannot be asked ({history.brief(error)})")
        return None


def _of_the_host() -> Iterator[Reason]:
    path = conf.settings().backfill_throttle
    if not path:
        return
    try:
        text = import_string(path)()
    except Exception as error:  # whatever a host's own code raises
        yield Reason(Effect.HOLD, f"{path} failed ({history.brief(error)})")
        return
    if text:
        yield Reason(Effect.STOP, str(text))
