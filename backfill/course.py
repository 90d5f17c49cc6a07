"""How a backfill goes on: after an attempt that failed, and when nothing is left to do in its status.

Whoever calls holds the run's lock, so two workers cannot both move it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from django.db import DatabaseError, transaction

from backfill import journal, rows, spans, sql, states
from backfill.models import Chunk, Run, saved
from backfill.spans import Step
from backfill.states import ChunkStatus, Kind, RunStatus
from workflows_tasks import truth
from workflows_tasks.host import host
from workflows_tasks.ids import encode

ATTEMPTS: Final = 3
"""Failures in a row after which a chunk is halved."""

FLOOR: Final = 10
"""A chunk of at most so many runs is not halved further; they are named instead."""

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


def failed(run: Run, chunk: Chunk, error: str, *, is_its_own: bool = True) -> None:
    """An attempt failed: the chunk waits a little, is halved, or is given up and named.

    Args:
        is_its_own: False for what passes, as a lock or a lost connection: halving would not help. It is only tried
            again, but counts as an attempt that failed.
    """
    journal.record(run, "failure", f"chunk {chunk.pk}, {chunk.extent}: {error}")
    again = bool(chunk.error)  # a commit in between would have cleared it
    saved(chunk, failures=chunk.failures + is_its_own, error=error, token="")
    # A database that restarts, or workers that are deployed anew, fail each chunk once: that is no bad backfill. Nor is
    # one bad run, which fails its chunk three times.
    if again and (chunk.failures == 2 or not is_its_own):
        note(run, chunk, failed=True)
    if chunk.failures < ATTEMPTS:
        pause = timedelta(seconds=RETRY_S * 2**chunk.failures)
        saved(chunk, status=ChunkStatus.PENDING, retry_at=rows.database_time() + pause)
    elif chunk.kind == Kind.FILL and chunk.steps:
        _halve(run, chunk)
    else:
        _give_up(run, chunk)


def _halve(run: Run, chunk: Chunk) -> None:
    """Put two chunks in the place of what is left of one; or name its runs, if there are not more than a few."""
    steps = spans.loaded(chunk.steps)
    try:
        with transaction.atomic(using=host().database):
            some = truth.rows(sql.runs_in(spans.joined(steps).workspaces, FLOOR + 1, run.since))
            found = [encode(key) for (key,) in some]
            parts = spans.halves(steps, run.since) if len(found) > FLOOR else []
    except DatabaseError:  # what it failed with may be in reading, too; steps can be halved without
        found, parts = [], [steps[: len(steps) // 2], steps[len(steps) // 2 :]] if len(steps) > 1 else []
    if len(parts) < 2:
        _give_up(run, chunk, found[:FLOOR])
        return
    # After all others: narrowing a failure down takes many attempts, and nobody shall wait for them.
    rows.chunks().bulk_create(made(run, chunk.kind, parts, parent=chunk, order=chunk.order | LATER))
    _have_looked_at(run, chunk, steps)
    # What was done of it stays with it; the rest is the children's, so that all together are what was planned.
    saved(chunk, status=ChunkStatus.SPLIT, planned=chunk.passed, steps=[])
    journal.record(run, "split", f"chunk {chunk.pk}, after {chunk.failures} failures")


def _have_looked_at(run: Run, chunk: Chunk, left: Sequence[Step]) -> None:
    """A chunk with nothing left to fill, in the place of what another filled before it failed: all that its worker does
    is to look at what is not true there any more, which otherwise is done at a chunk's end."""
    if chunk.passed:
        rows.chunks().create(
            run=run, kind=chunk.kind, parent=chunk, order=chunk.order | LATER,
            first_workspace=chunk.first_workspace, after_run=chunk.after_run,
            last_workspace=left[0].first, last_run=left[0].after_run, planned=0, steps=[],
        )  # fmt: skip


def _give_up(run: Run, chunk: Chunk, runs: Sequence[str] = ()) -> None:
    if chunk.kind == Kind.FILL and chunk.steps:
        _have_looked_at(run, chunk, spans.loaded(chunk.steps))
    saved(chunk, status=ChunkStatus.FAILED, failed_runs=list(runs))
    named = f"runs {', '.join(runs)}" if runs else chunk.extent
    journal.record(run, "chunk failed", f"chunk {chunk.pk}, {named}: {chunk.error}")


def made(
    run: Run, kind: str, packs: Sequence[Sequence[Step]], *, parent: Chunk | None = None, order: int | None = None
) -> Iterator[Chunk]:
    """Chunks, not saved yet, of packs of steps. Neighbours are claimed far from each other, so that two workers rarely
    write the rows of one workspace at the same time."""
    for position, steps in enumerate(packs):
        whole = spans.joined(steps)
        yield Chunk(
            run=run, kind=kind, parent=parent, order=scattered(position) if order is None else order,
            first_workspace=whole.first, after_run=whole.after_run,
            last_workspace=whole.last, last_run=whole.last_run,
            planned=whole.runs, steps=spans.dumped(steps),
        )  # fmt: skip


def scattered(position: int) -> int:
    """``position`` with its bits in reverse."""
    return int(format(position % 2**BITS, f"0{BITS}b")[::-1], 2)


def note(run: Run, chunk: Chunk, *, failed: bool) -> None:
    """Remember how it went with a chunk.

    What comes of a split is left out: it narrows down a failure that was counted.
    """
    if chunk.parent_id is not None or chunk.kind != Kind.FILL:
        return
    saved(run, outcomes=(run.outcomes + (FAILURE if failed else SUCCESS))[-WINDOW:])
    failures = run.outcomes.count(FAILURE)
    if failed and failures > MOST_FAILURES and run.status == RunStatus.RUNNING:
        many = f"{failures} of the last {len(run.outcomes)} chunks failed, and again when tried again"
        why = f"{many}; the last one: {chunk.error}"
        saved(run, status=RunStatus.PAUSING, error=why)
        journal.record(run, "pause", why)


def settle(run: Run) -> None:
    """Move the run on where nothing is left to do in its status."""
    busy = rows.active(run).exists()
    if run.status == RunStatus.PAUSING and not busy:
        _move(run, RunStatus.PAUSED)
    elif run.status == RunStatus.CANCELLING and not busy:
        _move(run, RunStatus.CANCELLED)
    elif run.status == RunStatus.RUNNING and _is_over(run):
        _move(run, RunStatus.FAILED if _failures(run) else RunStatus.VERIFYING)
    if run.status == RunStatus.VERIFYING and _is_over(run):
        _move(run, RunStatus.FAILED if _failures(run) else RunStatus.SUCCEEDED)


def _of_this_phase(run: Run) -> Any:
    return rows.chunks(run).filter(kind=rows.KIND[run.status])


def _is_over(run: Run) -> bool:
    """Nothing is left to be filled, or to be verified."""
    return not _of_this_phase(run).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING]).exists()


def _failures(run: Run) -> str:
    """What could not be done; empty if all was."""
    failed_chunks = _of_this_phase(run).filter(status=ChunkStatus.FAILED).order_by("id")
    count = failed_chunks.count()
    if not count:
        return ""
    what = "filled" if run.status == RunStatus.RUNNING else "verified"
    return f"{count} chunks could not be {what}; the first: {failed_chunks[0].error}"


def _move(run: Run, status: str) -> None:
    error = _failures(run) if status == RunStatus.FAILED else run.error
    finished_at = None if status in states.OPEN else rows.database_time()
    saved(run, status=status, waiting="", samples=[], error=error, finished_at=finished_at)
    journal.record(run, str(status), error)
