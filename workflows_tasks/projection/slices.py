"""A slice: one transaction of a flush, which holds the shard, and what is written into the shard's row."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.models.functions import Coalesce, Now

from workflows_tasks.capture.record import check_shards, installation
from workflows_tasks.host import host
from workflows_tasks.models import Installation, Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import transactions
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.transactions import DB_ERRORS
from workflows_tasks.sql import Sql, quoted, rows


class ShardBusy(Exception):
    """Another flush holds the shard's lock."""


@dataclass(slots=True)
class Slice:
    """The transaction that holds a shard."""

    shard: int
    counters: dict[str, float]
    was_failing: bool
    started_s: float = field(default_factory=time.monotonic)
    done: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the counters. The caller stores them."""
        for name, number in counts.items():
            self.counters[name] = self.counters.get(name, 0) + number

    def finish(self, ages_s: Sequence[float], counts: Mapping[str, int]) -> None:
        """Write into the shard's row what was done.

        Args:
            ages_s: how long before the slice began each change was written that it has forgotten.
        """
        took_s = time.monotonic() - self.started_s
        self.done = len(ages_s)
        self.add({**counts, "slices": 1, "changes": self.done})
        telemetry.observe(self.counters, "commit_to_visible", *(max(age_s + took_s, 0.0) for age_s in ages_s))
        telemetry.observe(self.counters, "slice_seconds", took_s)
        _row(self.shard).update(counters=self.counters, flushed_at=Now(), error="", failing_since=None)
        if self.was_failing:
            _row(self.shard).update(due_at=None)  # the end of a pause, for which no message was sent
            telemetry.flush_recovered(shard=self.shard)
        telemetry.slice_flushed(shard=self.shard, changes=self.done, counts=counts, took_s=took_s)


@contextmanager
def hold(shard: int) -> Iterator[Slice]:
    """A transaction that holds the shard's lock: one flush writes a shard at a time.

    The lock is taken by a statement of its own. The next statement's snapshot is newer, so it shows all that the
    previous holder committed, and every run whose change it shows.

    Raises:
        ShardBusy: another flush has it. Nobody waits: that one goes on until it finds nothing.
        WrongShards: this process is set to another number of shards than the database.
    """
    with transactions.read_committed(transactions.flush_limits()):
        yield _lock_row(shard)


def _lock_row(shard: int) -> Slice:
    held = next(iter(rows(_lock(shard))), None)
    # Made anew where a host's test truncated it.
    shards = installation().shards if held is None or held[2] is None else held[2]
    check_shards(shards)
    if held is None:
        _, was_missing = Shard.objects.using(host().database).get_or_create(number=shard)
        if not was_missing:
            raise ShardBusy
        held = ("{}", False, shards)
    counters, was_failing, _ = held
    return Slice(shard, json.loads(counters), was_failing)


def _lock(shard: int) -> Sql:
    return compose(
        """SELECT shard.counters::text, shard.failing_since IS NOT NULL,
            (SELECT installation.shards FROM {installation_table} AS installation WHERE installation.id = {only})
        FROM {shard_table} AS shard WHERE shard.number = {shard} FOR UPDATE OF shard SKIP LOCKED""",
        shard_table=quoted(Shard._meta.db_table),
        installation_table=quoted(Installation._meta.db_table),
        shard=shard,
        only=Installation.ONLY,
    )


def _row(shard: int) -> Any:
    return Shard.objects.using(host().database).filter(number=shard)


def count(shard: int, **counts: int) -> None:
    """Add to counters of a shard, in a transaction of its own."""
    try:
        with hold(shard) as current:
            current.add(counts)
            _row(shard).update(counters=current.counters)
    except ShardBusy:
        return  # a lost count is better than a wait


def note_failure(shard: int, error: BaseException, *, pause_s: float | None) -> None:
    """Store the error in the shard's row, and since when the shard fails. The next flush is due after a pause."""
    pause = {} if pause_s is None else {"due_at": Now() + timedelta(seconds=pause_s)}
    telemetry.flush_failed(error, shard=shard)
    connections[host().database].close_if_unusable_or_obsolete()
    try:
        counters = dict(_row(shard).values_list("counters", flat=True).first() or {})
        counters["failures"] = counters.get("failures", 0) + 1
        _row(shard).update(
            counters=counters, error=telemetry.brief(error), failing_since=Coalesce("failing_since", Now()), **pause
        )  # fmt: skip
    except DB_ERRORS:
        return  # the database is away, or read-only: health says so
