"""Numbers that the demo shows: how long a read takes and why, and how long a change takes to be visible."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from workflows_tasks.models import Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog


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


def plan(sql: str, params: Any) -> list[str]:
    """How PostgreSQL executes a query, with the times it took."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) {sql}", params)
        return [line for (line,) in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Freshness:
    """What waits to become visible, and what flushes have counted."""

    pending: int
    waiting_s: float
    counters: Mapping[str, float]

    @classmethod
    def now(cls) -> Freshness:
        shards = backlog.status()
        return cls(
            pending=sum(shard.pending for shard in shards),
            waiting_s=max((shard.oldest_s or 0.0 for shard in shards), default=0.0),
            counters=telemetry.merged(Shard.objects.values_list("counters", flat=True)),
        )

    def since(self, before: Freshness) -> Mapping[str, float]:
        """How far each counter has gone up."""
        return {name: value - before.counters.get(name, 0) for name, value in self.counters.items()}


def lag_s(counters: Mapping[str, float], q: float) -> float | None:
    """The ``q`` quantile of the seconds from a write until it is visible; None if nothing was flushed."""
    return telemetry.quantile_s(telemetry.histogram(counters, "commit_to_visible"), q)
