"""Who works on which chunk: claim one, hold on to it, give it back.

A lease is a token and a time. The transaction that fills ends with ``commit``, which writes only if both still hold. So
a worker that outlived its lease commits nothing: rows, position and counts are committed together or not at all. From
``commit`` to its end the transaction locks the chunk's row, and ``claim`` skips locked rows. So a worker that stands
still in between keeps its chunk until the server ends its session.

A chunk to fill is open from its claim until one transaction has looked over its range. The claim is committed before
the chunk's first write. Looking over logs the runs of rows that are not true any more. So whoever sees that a chunk is
not open sees those changes too. Locks are taken on the chunk first, then on the backfill. ``claim`` locks the backfill
first. It cannot deadlock, because it skips locked chunks.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import DatabaseError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from backfill import lifecycle, models, planner, ranges, states
from backfill.log import log
from backfill.models import Backfill, Chunk, store
from backfill.ranges import Step
from backfill.states import ChunkStatus, Kind
from workflows_tasks import conf, history
from workflows_tasks.errors import RecentWorkflowsError

APART: Final = 16
"""Chunks are claimed so many apart, so that two workers rarely write rows of one workspace."""

SLOWEST: Final = 20_000
"""Runs a second that a comparison reads at least. Its lease is longer by the time that takes."""


class LeaseLost(RecentWorkflowsError):
    """A worker outlived its lease, and must not write."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A chunk that this worker has, as it was when it was claimed."""

    backfill: Backfill
    chunk: Chunk


def claim(backfill_id: int) -> Lease | None:
    """Take a chunk; None if there is none to take, or enough are worked on."""
    while True:
        with models.lock(backfill_id) as backfill:
            if backfill.status not in states.CLAIMABLE:
                return None
            if models.active(backfill).count() >= backfill.concurrency:
                return None
            free = models.claimable(backfill).order_by(F("id") % APART, "id").select_for_update(skip_locked=True)
            chunk = free.annotate(now=Now()).first()
            if chunk is None:
                lifecycle.settle(backfill)
                return None
            if chunk.status == ChunkStatus.RUNNING:  # its lease has expired
                lifecycle.fail(backfill, chunk, f"its worker {chunk.worker} went away")
                continue
            store(
                chunk,
                status=ChunkStatus.RUNNING,
                is_open=chunk.kind == Kind.FILL,
                token=uuid.uuid4().hex,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                lease_until=chunk.now + timedelta(seconds=lease_s(chunk)),
            )
            return Lease(backfill, chunk)


def lease_s(chunk: Chunk) -> float:
    """Seconds until a silent worker counts as gone. Comparing a large workspace is one statement."""
    largest = 0 if chunk.kind == Kind.FILL else max((step.runs for step in ranges.load(chunk.steps)), default=0)
    return conf.settings().backfill_lease_s + largest / SLOWEST


def commit(lease: Lease, left: Sequence[Step], *, written: int = 0, took_s: float = 0.0) -> None:
    """Store how far the chunk is: the last statement of the transaction that brought it there.

    Raises:
        LeaseLost: the transaction must be rolled back.
    """
    _update(
        lease, steps=list(map(list, left)), passed=_passed(lease.chunk, left), rows=F("rows") + written,
        seconds=F("seconds") + took_s, failures=0, error="",
    )  # fmt: skip


def refuse(lease: Lease, step: Step, left: Sequence[Step], error: str) -> None:
    """Go past a step that the database refuses. The chunk keeps it, with the error. Raises ``LeaseLost``."""
    try:
        runs = [run for _, run in ranges.first_runs(step.range, limit=3)]  # mostly it has one
    except DatabaseError:  # reading it may be what is refused
        runs = []
    chunk = lease.chunk
    chunk.refused = [*chunk.refused, [list(step), runs, error]]
    chunk.failures += 1
    _update(
        lease, steps=list(map(list, left)), passed=_passed(chunk, left), refused=chunk.refused,
        failures=chunk.failures, error=error,
    )  # fmt: skip


def _passed(chunk: Chunk, left: Sequence[Step]) -> int:
    """Count the runs that are done: neither left nor refused."""
    refused = ranges.load([step for step, _, _ in chunk.refused])
    return chunk.planned - sum(step.runs for step in [*left, *refused])


def hold(lease: Lease, *, drift: int = 0) -> None:
    """Renew the lease without progress, and count drift. Raises ``LeaseLost``."""
    _update(lease, drift=F("drift") + drift)


def _update(lease: Lease, **fields: Any) -> None:
    """Write to the chunk and renew the lease."""
    until = Now() + timedelta(seconds=lease_s(lease.chunk))
    if not _ours(lease).update(**fields, lease_until=until):
        raise _lost(lease)


def finish(lease: Lease) -> None:
    """End a chunk that is filled or compared. The same transaction looks over what was filled.

    Raises:
        LeaseLost: another worker has it.
        django.db.DatabaseError: the look failed, and the chunk stays open.
    """
    with _ending(lease, looks=_look_over) as (_, chunk):
        status = ChunkStatus.FAILED if chunk.refused else ChunkStatus.DONE
        error = chunk.refused[0][-1] if chunk.refused else ""
        store(chunk, status=status, token="", error=error, retry_at=None)


def release(lease: Lease, *, waiting: str = "") -> None:
    """Give the chunk back as far as it is, with a reason to wait if there is one. Raises as ``finish`` does."""
    with _ending(lease, looks=_look_over) as (backfill, chunk):
        store(chunk, status=ChunkStatus.PENDING, token="")
        if waiting:
            store(backfill, waiting=waiting)


def fail(lease: Lease, error: str) -> None:
    """End an attempt that failed. Raises ``LeaseLost``."""
    with _ending(lease, looks=_try_to_look_over) as (backfill, chunk):
        lifecycle.fail(backfill, chunk, error)


@contextmanager
def _ending(lease: Lease, *, looks: Any) -> Iterator[tuple[Backfill, Chunk]]:
    """Lock chunk and backfill to end an attempt, and then move the backfill on. The look comes before the backfill is
    locked, so nobody waits for it."""
    lease_s = conf.settings().backfill_lease_s
    limits = history.limits(statement_s=planner.TIMEOUT_S, lock_s=lease_s, idle_s=lease_s / 2)
    with history.read_committed(limits):
        chunk = _ours(lease).select_for_update().first()
        if chunk is None:
            raise _lost(lease)
        if chunk.is_open:
            looks(chunk)
        backfill = models.backfills().select_for_update().get(pk=lease.backfill.pk)
        yield backfill, chunk
        lifecycle.settle(backfill)


def _look_over(chunk: Chunk) -> None:
    """Look over all rows of its range: another worker may have died before it looked over what it wrote."""
    changes = history.recheck_filled(chunk.range) if chunk.passed else 0
    if changes:
        history.say(
            logging.INFO, "backfill=%(backfill)d chunk=%(chunk)d: rows changed while they were filled: %(rows)d", log,
            backfill=chunk.backfill_id, chunk=chunk.pk, rows=changes,
        )  # fmt: skip
    store(chunk, is_open=False)


def _try_to_look_over(chunk: Chunk) -> None:
    """Look over a chunk that failed. If that fails, too, it stays open."""
    try:
        with transaction.atomic(using=history.database()):
            _look_over(chunk)
    except DatabaseError as error:
        chunk.is_open = True
        history.say(
            logging.WARNING, "backfill=%(backfill)d chunk=%(chunk)d stays open: %(error)s", log,
            backfill=chunk.backfill_id, chunk=chunk.pk, error=history.brief(error),
        )  # fmt: skip


def _ours(lease: Lease) -> QuerySet[Chunk]:
    chunk = lease.chunk
    ours: QuerySet[Chunk] = models.active(lease.backfill).filter(pk=chunk.pk, token=chunk.token)
    return ours


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"chunk {lease.chunk.pk}: the lease was lost, nothing was written; another worker has it")
