"""What a worker does for one message: claim a chunk, fill or verify it batch by batch, claim another.

It stops when its time is over, when the backfill is paused or cancelled, when it should wait, and when nothing is left.
A kill loses nothing: the chunk stores what is committed, and another worker claims the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import ceil
from typing import Final

from django.db import DatabaseError, InterfaceError, connections

from backfill import leases, lifecycle, models, planner, ranges, states, throttle
from backfill.leases import Lease, LeaseLost
from backfill.log import log
from backfill.ranges import Step
from backfill.states import BackfillStatus, Kind
from workflows_tasks import conf, history
from workflows_tasks.errors import RecentWorkflowsError

DB_ERRORS: Final = (DatabaseError, InterfaceError)

SLICE_S: Final = 60.0
"""Seconds after which a message begins no new transaction."""

TARGET_S: Final = 0.5
"""Seconds that a transaction should take."""

STATEMENT_TIMEOUT_S: Final = 4.0
"""Seconds after which a statement gives up. For a lock it waits a quarter of that."""

GROWTH: Final = 2.0
"""A batch grows by no more than this: one that was cheap says little about the next."""

SHRINK: Final = 10
"""What a batch is divided by after it was refused, or took too long."""

MOST_COMPARED: Final = 2_000_000
"""Runs that one statement compares. A larger workspace is compared in parts, by its workflows."""


class Drifts(RecentWorkflowsError):
    """A range has drift. Its runs are in the change log now, and it is compared again."""


def work(backfill_id: int) -> bool:
    """Work on a backfill for ``SLICE_S`` seconds; True if there is more to do.

    A message that gets a chunk always brings it a batch further, unless it should wait. Only such a message is followed
    by another. So messages do not multiply, however often each is delivered.
    """
    until_s = time.monotonic() + SLICE_S
    backfill = models.backfills().filter(pk=backfill_id).first()
    if backfill is None:  # deleted since the message was sent
        return False
    if backfill.status in {BackfillStatus.ENQUEUED, BackfillStatus.PLANNING}:
        planner.carry_out(backfill_id)
    while lease := leases.claim(backfill_id):
        may_go_on = _attempt(lease, until_s)
        is_over = time.monotonic() >= until_s
        if is_over or not may_go_on:
            return is_over
    return False


def _attempt(lease: Lease, until_s: float) -> bool:
    """Work on a chunk until it is done, fails, or is given back; True if another may be claimed."""
    try:
        return _Attempt(lease, until_s).run()
    except LeaseLost as error:
        _lost(lease, error)
        return False
    except (*DB_ERRORS, Drifts) as error:
        _store_failure(lease, error)
        return True


def _store_failure(lease: Lease, error: Exception) -> None:
    """Store that an attempt failed. If the database does not answer, the lease expires."""
    if isinstance(error, DB_ERRORS):
        connections[history.database()].close_if_unusable_or_obsolete()
    try:
        leases.fail(lease, history.brief(error))
    except LeaseLost as lost:
        _lost(lease, lost)


def _lost(lease: Lease, error: LeaseLost) -> None:
    history.say(logging.WARNING, "backfill=%(backfill)d %(error)s", log, backfill=lease.backfill.pk, error=str(error))


def _is_about_runs(error: Exception) -> bool:
    """Whether the runs themselves are to blame, so that some of them may go through."""
    return history.sqlstate(error) == history.STATEMENT_TIMEOUT or history.is_refusal(error)


class _Attempt:
    """One worker at one chunk."""

    def __init__(self, lease: Lease, until_s: float) -> None:
        self._lease = lease
        self._until_s = until_s
        self._is_over = False
        self._left = ranges.load(lease.chunk.steps)
        self._batch = max((step.runs for step in self._left), default=1)

    def run(self) -> bool:
        step = self._fill if self._lease.chunk.kind == Kind.FILL else self._verify
        while self._left:
            waiting = self._reason_to_stop()
            if waiting is not None:
                leases.release(self._lease, waiting=waiting)
                return False
            step()
            self._is_over = time.monotonic() >= self._until_s
        leases.finish(self._lease)
        return True

    def _reason_to_stop(self) -> str | None:
        """Why no other batch may begin; empty if it is over or stopped, None if one may begin."""
        status = models.backfills().values_list("status", flat=True).get(pk=self._lease.backfill.pk)
        if status not in states.WORKING or self._is_over:
            return ""
        return "; ".join(throttle.reasons_to_wait()) or None

    def _fill(self) -> None:
        batch, *left = self._left  # this is refused if it cannot even be cut
        started_s = time.monotonic()

        def before_commit(written: int) -> None:
            leases.commit(self._lease, left, written=written, took_s=time.monotonic() - started_s)

        try:
            with self._span() as tell:
                batch, left = ranges.next_batch(self._left, self._batch)
                written = history.fill(batch.range, limits=_limits(), before_commit=before_commit)
                tell(runs=batch.runs, rows=written)
        except DatabaseError as error:
            if not _is_about_runs(error):
                raise
            self._narrow_down(batch, left, error)
            return
        took_s = time.monotonic() - started_s
        history.say(
            logging.DEBUG, "chunk=%(chunk)d: runs=%(runs)d rows=%(rows)d took_s=%(took_s).3f", log,
            chunk=self._lease.chunk.pk, runs=batch.runs, rows=written, took_s=took_s,
        )  # fmt: skip
        self._left = left
        self._lease.chunk.failures = 0
        self._batch = adapt(batch.runs, took_s)

    def _narrow_down(self, batch: Step, left: list[Step], error: DatabaseError) -> None:
        """Try a tenth of a batch that was refused or took too long. Go past a single run."""
        if self._batch > 1 and batch.runs > 1:
            self._batch = max(min(batch.runs, self._batch) // SHRINK, 1)
            history.say(
                logging.WARNING, "chunk=%(chunk)d: %(next_runs)d runs next, after %(runs)d: %(error)s", log,
                chunk=self._lease.chunk.pk, next_runs=self._batch, runs=batch.runs, error=history.brief(error),
            )  # fmt: skip
            leases.hold(self._lease)
            return
        leases.refuse(self._lease, batch, left, history.brief(error))
        self._left = left
        if lifecycle.has_failed(self._lease.chunk):
            raise error

    def _verify(self) -> None:
        started_s = time.monotonic()
        with self._span() as tell:
            batch, left = ranges.whole_batch(self._left, conf.settings().audit_chunk)
            drift = list(_drift(batch))
            tell(runs=batch.runs, drift=len(drift))
            if drift:
                leases.hold(self._lease, drift=len(drift))
                history.repair(drift)
                raise Drifts(f"{len(drift)} differences, the first: {drift[0].as_json()}")
            leases.commit(self._lease, left, took_s=time.monotonic() - started_s)
        self._left = left

    def _span(self) -> AbstractContextManager[Callable[..., None]]:
        chunk = self._lease.chunk
        return history.span("backfill.batch", backfill=chunk.backfill_id, chunk=chunk.pk, kind=chunk.kind)


def _drift(batch: Step) -> Iterator[history.Difference]:
    """Return the drift in a range of whole workspaces."""
    pieces = ceil(batch.runs / MOST_COMPARED) or 1
    for piece in range(pieces):
        differences = history.compare(batch.range, part=(piece, pieces))
        yield from (difference for difference in differences if difference.state == history.DRIFT)


def adapt(runs: int, took_s: float) -> int:
    """Return the size of the next batch."""
    return max(round(runs * min(TARGET_S / max(took_s, 1e-6), GROWTH)), 1)


def _limits() -> dict[str, str]:
    """Limits of a transaction that fills. The server ends the session of a worker that stands still."""
    idle_s = conf.settings().backfill_lease_s / 2
    return history.limits(statement_s=STATEMENT_TIMEOUT_S, lock_s=STATEMENT_TIMEOUT_S / 4, idle_s=idle_s)
