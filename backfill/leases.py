"""Who works on which chunk: claiming one, holding on to it, giving it back.

A lease is a token and a time. The transaction that fills ends with ``commit``, which writes only if both still hold:
whoever was stopped past its lease finds that out before anything is committed, and rows, position and counts are
committed together or not at all. From then to the transaction's end the chunk's row is locked, and whoever claims skips
locked rows: a worker that stands still between the two still has the chunk, until the server ends its session.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import F, QuerySet
from django.db.models.functions import Now

from backfill import course, rows, spans, states
from backfill.models import Chunk, Run, saved
from backfill.spans import Step
from backfill.states import ChunkStatus, Kind
from workflows_tasks import conf
from workflows_tasks.errors import RecentWorkflowsError

SLOWEST: Final = 20_000
"""Runs a second that a comparison, or a look, reads at the least; a lease waits for as long as that may take."""


class LeaseLost(RecentWorkflowsError):
    """A worker outlived its lease. It must not write; whoever took the chunk over does."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A chunk that is ours, as it was when it was claimed."""

    run: Run
    chunk: Chunk


def claim(run_id: int) -> Lease | None:
    """Take a chunk; None where there is none to take, or enough are being worked on."""
    while True:
        with rows.locked(run_id) as run:
            if run.status not in states.WORKING or rows.active(run).count() >= run.width:
                return None
            free = rows.claimable(run).order_by("order", "id").select_for_update(skip_locked=True)
            chunk = free.annotate(now=Now()).first()
            if chunk is None:
                course.settle(run)
                return None
            if chunk.status == ChunkStatus.RUNNING:  # its worker did not come to say how it failed
                course.failed(run, chunk, f"its worker {chunk.worker} went away")
                continue
            saved(
                chunk,
                status=ChunkStatus.RUNNING,
                token=uuid.uuid4().hex,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                lease_until=chunk.now + timedelta(seconds=lease_s(chunk)),
                attempts=chunk.attempts + 1,
            )
            return Lease(run, chunk)


def lease_s(chunk: Chunk) -> float:
    """Seconds until a worker that says nothing counts as gone."""
    return conf.settings().backfill_lease_s + patience_s(chunk)


def patience_s(chunk: Chunk) -> float:
    """Seconds that a step of a chunk may take beyond what a transaction that fills may: a comparison is never cut
    inside a workspace."""
    if chunk.kind == Kind.FILL:
        return 0.0
    return max((step.runs for step in spans.loaded(chunk.steps)), default=0) / SLOWEST


def commit(lease: Lease, left: Sequence[Step], *, written: int = 0, seconds: float = 0.0) -> None:
    """Store how far the chunk is, and hold on to it. The last statement of the transaction that brought it there.

    Args:
        written: rows of the table.
        seconds: what it took.

    Raises:
        LeaseLost: the lease has expired, or is somebody else's: the transaction must be rolled back.
    """
    changed = _ours(lease).update(
        steps=spans.dumped(left),
        passed=lease.chunk.planned - sum(step.runs for step in left),
        rows=F("rows") + written,
        seconds=F("seconds") + seconds,
        failures=0,
        error="",
        lease_until=_until(lease),
    )
    if not changed:
        raise _lost(lease)


def hold(lease: Lease, *, drift: int = 0, reading: int = 0) -> None:
    """A sign of life from a worker that has not come further.

    Args:
        drift: differences that it found.
        reading: runs that it will read in one statement before it is heard of again.

    Raises:
        LeaseLost: it is not ours any more.
    """
    if not _ours(lease).update(drift=F("drift") + drift, lease_until=_until(lease, reading)):
        raise _lost(lease)


def _until(lease: Lease, reading: int = 0) -> Any:
    return Now() + timedelta(seconds=lease_s(lease.chunk) + reading / SLOWEST)


def finish(lease: Lease, *, batch: int) -> None:
    """All of the chunk is filled and looked at, or compared.

    Args:
        batch: runs that its last transaction had; the next chunk begins with as many.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with _ending(lease) as (run, chunk):
        saved(chunk, status=ChunkStatus.DONE, token="", done_at=rows.database_time(), retry_at=None)
        course.note(run, chunk, failed=False)
        if chunk.kind == Kind.FILL:
            saved(run, batch=batch)


def release(lease: Lease, *, waiting: str = "") -> None:
    """Give the chunk back as far as it is.

    Args:
        waiting: why, if live traffic asked for it.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with _ending(lease) as (run, chunk):
        saved(chunk, status=ChunkStatus.PENDING, token="")
        if waiting:
            saved(run, waiting=waiting)


def fail(lease: Lease, error: str, *, is_its_own: bool = True) -> None:
    """The attempt failed: the chunk is tried again, halved, or given up; see ``course.failed``.

    Raises:
        LeaseLost: it is not ours any more.
    """
    with _ending(lease) as (run, chunk):
        course.failed(run, chunk, error, is_its_own=is_its_own)


@contextmanager
def _ending(lease: Lease) -> Iterator[tuple[Run, Chunk]]:
    """Run and chunk, locked in that order, to end an attempt with; then the run goes on if this was what it waited
    for."""
    with rows.locked(lease.run.pk) as run:
        chunk = _ours(lease).select_for_update().first()
        if chunk is None:
            raise _lost(lease)
        yield run, chunk
        course.settle(run)


def _ours(lease: Lease) -> QuerySet[Chunk]:
    held: QuerySet[Chunk] = rows.chunks().filter(
        pk=lease.chunk.pk, token=lease.chunk.token, status=ChunkStatus.RUNNING, lease_until__gt=Now()
    )
    return held


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"the lease of chunk {lease.chunk.pk} was lost")
