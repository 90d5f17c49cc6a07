"""How a backfill goes on: after an attempt that failed, and when nothing is left to do in its status.

Whoever calls holds the backfill's lock, so two workers cannot both move it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from django.db import DatabaseError, transaction
from django.db.models import QuerySet

from backfill import models, ranges, states
from backfill.log import record
from backfill.models import Backfill, Chunk, saved
from backfill.ranges import Step
from backfill.states import BackfillStatus, ChunkStatus, Kind
from workflows_tasks import history

ATTEMPTS: Final = 3
"""Failures in a row after which a chunk is halved."""

WINDOW: Final = 20
"""Outcomes that are remembered, each by one of the letters below."""

SUCCESS, FAILURE = ".", "F"

MOST_FAILURES: Final = WINDOW // 5
"""If more of them failed, it is no bad run: the backfill pauses itself."""

RETRY_S = 0.5
"""Seconds before a chunk that failed is tried again; twice as long each time."""

BITS: Final = 20
"""Of a chunk's place in the order of claims, but for those that come after all others."""

LATER: Final = 1 << BITS


def failed(backfill: Backfill, chunk: Chunk, error: str, *, is_its_own: bool = True) -> None:
    """An attempt failed: the chunk waits a little, is halved, or is given up and named.

    Args:
        is_its_own: False for what passes, as a lock or a lost connection: halving would not help. It is only tried
            again, but counts as an attempt that failed.
    """
    record(backfill, "failure", f"chunk {chunk.pk}, {chunk.extent}: {error}")
    again = bool(chunk.error)  # a commit in between would have cleared it
    saved(chunk, failures=chunk.failures + is_its_own, error=error, token="")
    # A database that restarts, or workers that are deployed anew, fail each chunk once: that is no bad backfill. Nor is
    # one bad run, which fails its chunk three times.
    if again and (chunk.failures == 2 or not is_its_own):
        _note_failure(backfill, chunk, is_its_own=is_its_own)
    if chunk.failures < ATTEMPTS:
        pause = timedelta(seconds=RETRY_S * 2**chunk.failures)
        saved(chunk, status=ChunkStatus.PENDING, retry_at=models.database_time() + pause)
    elif chunk.kind == Kind.FILL and chunk.steps:
        _halve(backfill, chunk)
    else:
        _give_up(backfill, chunk)


def _halve(backfill: Backfill, chunk: Chunk) -> None:
    """Put two chunks in the place of what is left of one; or name its run, if it is a single one."""
    steps = ranges.loaded(chunk.steps)
    try:
        with transaction.atomic(using=history.database()):
            some = ranges.first_runs(ranges.joined(steps).range, 2)
            parts = ranges.halves(steps) if len(some) > 1 else []
    except DatabaseError:  # what it failed with may be in reading, too; steps can be halved without
        some, parts = [], [steps[: len(steps) // 2], steps[len(steps) // 2 :]] if len(steps) > 1 else []
    if len(parts) < 2:
        _give_up(backfill, chunk, [run for _, run in some])
        return
    models.chunks().bulk_create(new_chunks(backfill, chunk.kind, parts, parent=chunk))
    _hand_over(backfill, chunk)
    # What was done of it stays with it; the rest is the children's, so that all together are what was planned.
    saved(chunk, status=ChunkStatus.SPLIT, planned=chunk.passed, steps=[])
    record(backfill, "split", f"chunk {chunk.pk}, after {chunk.failures} failures")


def _give_up(backfill: Backfill, chunk: Chunk, runs: Sequence[str] = ()) -> None:
    if chunk.steps:
        _hand_over(backfill, chunk)
    saved(chunk, status=ChunkStatus.FAILED, failed_runs=list(runs))
    named = f"run {', '.join(runs)}" if runs else chunk.extent
    record(backfill, "chunk failed", f"chunk {chunk.pk}, {named}: {chunk.error}")


def _hand_over(backfill: Backfill, chunk: Chunk) -> None:
    """What a chunk had filled is another's from now on, which has nothing to fill and is open until it is looked over:
    a worker does that as at any chunk's end."""
    filled = ranges.filled(chunk)
    if chunk.is_open and filled is not None:
        models.chunks().create(
            backfill=backfill, kind=chunk.kind, parent=chunk, order=chunk.order | LATER, is_open=True,
            first_workspace=chunk.first_workspace, after_run=chunk.after_run,
            last_workspace=filled.last or chunk.last_workspace, last_run=filled.last_run, planned=0, steps=[],
        )  # fmt: skip
    saved(chunk, is_open=False)


def new_chunks(
    backfill: Backfill, kind: str, packs: Sequence[Sequence[Step]], parent: Chunk | None = None
) -> Iterator[Chunk]:
    """Chunks, not saved yet, of packs of steps. Neighbours are claimed far from each other, so that two workers rarely
    write the rows of one workspace at the same time; parts of a parent after all others, since narrowing a failure down
    takes many attempts."""
    for position, steps in enumerate(packs):
        whole = ranges.joined(steps)
        yield Chunk(
            backfill=backfill, kind=kind, parent=parent, order=parent.order | LATER if parent else scattered(position),
            first_workspace=whole.first, after_run=whole.after_run,
            last_workspace=whole.last, last_run=whole.last_run,
            planned=whole.runs, steps=list(map(list, steps)),
        )  # fmt: skip


def scattered(position: int) -> int:
    """``position`` with its bits in reverse."""
    return int(format(position % 2**BITS, f"0{BITS}b")[::-1], 2)


def note_success(backfill: Backfill, chunk: Chunk) -> None:
    """Remember that a chunk is done; not one of a split, which narrows down a failure that was counted."""
    if chunk.parent_id is None and chunk.kind == Kind.FILL:
        saved(backfill, outcomes=(backfill.outcomes + SUCCESS)[-WINDOW:])


def _note_failure(backfill: Backfill, chunk: Chunk, *, is_its_own: bool) -> None:
    """Remember an attempt that failed, and pause if there are too many. Of verifying and of what comes of a split only
    failures that are not the chunk's own count."""
    if is_its_own and (chunk.parent_id is not None or chunk.kind != Kind.FILL):
        return
    saved(backfill, outcomes=(backfill.outcomes + FAILURE)[-WINDOW:])
    failures = backfill.outcomes.count(FAILURE)
    if failures > MOST_FAILURES and backfill.status in states.WORKING:
        many = (
            f"{failures} of the last {len(backfill.outcomes)} attempts failed, each at a chunk that had failed before"
        )
        why = f"{many}; the last one, at chunk {chunk.pk}: {chunk.error}"
        saved(backfill, status=BackfillStatus.PAUSING, error=why)
        record(backfill, "pause", why)


def settle(backfill: Backfill) -> None:
    """Move the backfill on where nothing is left to do in its status."""
    status = backfill.status
    if status == BackfillStatus.PAUSING and not models.active(backfill).exists():
        _move(backfill, BackfillStatus.PAUSED)
    elif status == BackfillStatus.CANCELLING and not (
        models.active(backfill).exists() or _must_be_looked_over(backfill)
    ):
        _move(backfill, BackfillStatus.CANCELLED)
    elif status == BackfillStatus.RUNNING and _is_over(backfill):
        _move(backfill, BackfillStatus.FAILED if _failures(backfill) else BackfillStatus.VERIFYING)
    if backfill.status == BackfillStatus.VERIFYING and _is_over(backfill):
        _move(backfill, BackfillStatus.FAILED if _failures(backfill) else BackfillStatus.SUCCEEDED)


def _of_this_phase(backfill: Backfill) -> QuerySet[Chunk]:
    of_kind: QuerySet[Chunk] = models.chunks(backfill).filter(kind=models.KIND[backfill.status])
    return of_kind


def _is_over(backfill: Backfill) -> bool:
    """Nothing is left to be filled, or to be verified."""
    return not _of_this_phase(backfill).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING]).exists()


def _must_be_looked_over(backfill: Backfill) -> bool:
    """A chunk is open; of those that failed the look itself failed, so that waiting for it would have no end."""
    return bool(_of_this_phase(backfill).filter(is_open=True).exclude(status=ChunkStatus.FAILED).exists())


def _failures(backfill: Backfill) -> str:
    """What could not be done; empty if all was."""
    failed_chunks = _of_this_phase(backfill).filter(status=ChunkStatus.FAILED).order_by("id")
    count = failed_chunks.count()
    if not count:
        return ""
    what = "filled" if backfill.status == BackfillStatus.RUNNING else "verified"
    chunks = "1 chunk" if count == 1 else f"{count} chunks"
    return f"{chunks} could not be {what}; the first: {failed_chunks[0].error}"


def _move(backfill: Backfill, status: str) -> None:
    error = _failures(backfill) if status == BackfillStatus.FAILED else backfill.error
    finished_at = None if status in states.OPEN else models.database_time()
    saved(backfill, status=status, waiting="", samples=[], error=error, finished_at=finished_at)
    record(backfill, str(status), error)
