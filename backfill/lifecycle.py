"""How a backfill goes on: after a failure, and when nothing is left to do in its status.

Whoever calls holds the backfill's lock, so two workers cannot both move it on.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models import QuerySet

from backfill import models, states
from backfill.log import record
from backfill.models import Backfill, Chunk, store
from backfill.states import BackfillStatus, ChunkStatus, Kind
from workflows_tasks import history

ATTEMPTS: Final = 5
"""Failures of a chunk in a row after which something more than a few runs must be wrong."""

MOST_REFUSED: Final = 100
"""Refused steps of a chunk after which the same is true."""

RETRY_S = 0.5
"""Seconds before a chunk that failed is tried again. They double each time."""


def has_failed(chunk: Chunk) -> bool:
    """Whether another attempt would be of no use."""
    return chunk.failures >= ATTEMPTS or len(chunk.refused) >= MOST_REFUSED


def fail(backfill: Backfill, chunk: Chunk, error: str) -> None:
    """Store that an attempt failed, to be tried again later. After too many failures a fill pauses the backfill, and a
    comparison stays failed."""
    record(backfill, "failure", f"chunk {chunk.pk}, {chunk.extent}: {error}")
    store(chunk, failures=chunk.failures + 1, error=error, token="")
    retry_at = models.database_time() + timedelta(seconds=RETRY_S * 2**chunk.failures)
    if not has_failed(chunk):
        store(chunk, status=ChunkStatus.PENDING, retry_at=retry_at)
    elif chunk.kind == Kind.VERIFY or backfill.status == BackfillStatus.CANCELLING:
        store(chunk, status=ChunkStatus.FAILED)
    else:
        store(chunk, status=ChunkStatus.PENDING)
        if backfill.status in states.WORKING:
            times = f"{chunk.failures} failures in a row, {len(chunk.refused)} refused"
            pause(backfill, f"chunk {chunk.pk}: {times}; the last: {error}")


def pause(backfill: Backfill, why: str) -> None:
    store(backfill, status=BackfillStatus.PAUSED, error=why)
    record(backfill, "pause", why)


def settle(backfill: Backfill) -> None:
    """Move the backfill on if nothing is left to do in its status."""
    if backfill.status == BackfillStatus.CANCELLING and not _is_being_cancelled(backfill):
        _move(backfill, BackfillStatus.CANCELLED)
    if backfill.status == BackfillStatus.RUNNING and _is_over(backfill):
        _move(backfill, BackfillStatus.FAILED if _failures(backfill) else BackfillStatus.VERIFYING)
    if backfill.status == BackfillStatus.VERIFYING and _is_over(backfill):
        _move(backfill, BackfillStatus.FAILED if _failures(backfill) else BackfillStatus.SUCCEEDED)


def _of_this_phase(backfill: Backfill) -> QuerySet[Chunk]:
    of_kind: QuerySet[Chunk] = models.chunks(backfill).filter(kind=models.KIND[backfill.status])
    return of_kind


def _is_over(backfill: Backfill) -> bool:
    """Whether nothing is left to fill, or to verify."""
    return not _of_this_phase(backfill).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING]).exists()


def _is_being_cancelled(backfill: Backfill) -> bool:
    """Whether somebody works on it, or a chunk is open. A failed chunk does not count: the look itself failed there."""
    is_open = _of_this_phase(backfill).filter(is_open=True).exclude(status=ChunkStatus.FAILED)
    return bool(models.active(backfill).exists() or is_open.exists())


def _failures(backfill: Backfill) -> str:
    """Say what could not be done; empty if all was."""
    failed_chunks = _of_this_phase(backfill).filter(status=ChunkStatus.FAILED).order_by("id")
    count = failed_chunks.count()
    if not count:
        return ""
    what = "filled" if backfill.status == BackfillStatus.RUNNING else "verified"
    chunks = "1 chunk" if count == 1 else f"{count} chunks"
    return f"{chunks} could not be {what}; the first: {failed_chunks[0].error}"


def _move(backfill: Backfill, status: str) -> None:
    error = _failures(backfill) if status == BackfillStatus.FAILED else backfill.error
    finished_at = None if status in states.NOT_ENDED else models.database_time()
    store(backfill, status=status, waiting="", error=error, finished_at=finished_at)
    if status == BackfillStatus.SUCCEEDED and backfill.is_of_everything:
        history.note_filled()
    record(backfill, str(status), error)
