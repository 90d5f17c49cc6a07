"""Numbers that the demo shows: how long a read takes, how long a change takes to be visible, what was sent for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery.signals import after_task_publish
from django.db import connection
from django.db.models import QuerySet

from workflows_tasks import events, inbox
from workflows_tasks.dispatch import FLUSH


def best_ms(read: Callable[[], object], rounds: int = 3) -> float:
    """Milliseconds that ``read`` takes, the best of some rounds: the first warms the caches."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        read()
        best = min(best, time.perf_counter() - started)
    return best * 1000


def statement(rows: QuerySet[Any]) -> Callable[[], object]:
    """The read of ``rows`` as its SQL alone: what Django adds is the same whatever the query."""
    sql, params = rows.query.sql_with_params()

    def read() -> object:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()

    return read


@dataclass(frozen=True, slots=True)
class Freshness:
    """What waits to become visible now, and for how long that took lately."""

    pending: int
    claims: int
    waiting_s: float
    counters: Mapping[str, float]

    @classmethod
    def now(cls) -> Freshness:
        """As the inbox says.

        Raises:
            InboxUnavailable: Redis is not there.
        """
        shards = inbox.status()
        ages = [age for shard in shards for age in (shard.oldest_pending_s, shard.oldest_claim_s) if age is not None]
        return cls(
            pending=sum(shard.pending for shard in shards),
            claims=sum(shard.claims for shard in shards),
            waiting_s=max(ages, default=0.0),
            counters=events.merged(shard.stats for shard in shards),
        )

    @property
    def settled(self) -> bool:
        """Nothing waits, and nobody works on what waited."""
        return not self.pending and not self.claims

    def since(self, before: Freshness) -> Mapping[str, float]:
        """How far each counter has gone up."""
        return {name: value - before.counters.get(name, 0) for name, value in self.counters.items()}


def lag_s(counters: Mapping[str, float], q: float) -> float | None:
    """The ``q`` quantile of the seconds from a commit until it is visible; None if nothing was flushed."""
    return events.quantile_s(events.histogram(counters, "commit_to_visible"), q)


@contextmanager
def counting_flush_messages() -> Iterator[Callable[[], int]]:
    """Counts the flush messages that this process sends to the broker."""
    sent = 0

    def count(**_: Any) -> None:
        nonlocal sent
        sent += 1

    after_task_publish.connect(count, sender=FLUSH, weak=False)
    try:
        yield lambda: sent
    finally:
        after_task_publish.disconnect(count, sender=FLUSH)
