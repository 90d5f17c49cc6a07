"""What a worker does for one message: take a chunk, fill it or verify it a batch at a time, take another.

It stops when its time is over, when the run is paused or cancelled, when live traffic needs the machine, and when there
is nothing to take. Whatever ends it, and wherever, nothing is lost: what is committed is stored in the chunk, and the
rest is claimed again.
"""

from __future__ import annotations

import time
from typing import Final

from django.db import DatabaseError, InterfaceError, connections

from backfill import course, journal, leases, pace, planning, rows, spans, states, throttle
from backfill.leases import Lease, LeaseLost
from backfill.spans import Step
from backfill.states import Kind, RunStatus
from workflows_tasks import conf, dispatch, projection, repair, transactions
from workflows_tasks.errors import InboxUnavailable, RecentWorkflowsError
from workflows_tasks.host import host
from workflows_tasks.ids import encode

DB_ERRORS: Final = (DatabaseError, InterfaceError)


class Differs(RecentWorkflowsError):
    """A range does not agree with its runs. They are announced; it is compared again."""


def work(run_id: int) -> bool:
    """Work on a run for ``BACKFILL_SLICE_S`` seconds; True if that was too short, and there is more to do.

    However short or late it is, a message that gets a chunk brings it a batch further unless live traffic needs the
    machine, and only such a message asks for another: they do not multiply, however often each is delivered.
    """
    until_s = time.monotonic() + conf.settings().backfill_slice_s
    run = rows.runs().filter(pk=run_id).first()
    if run is None:  # deleted since the message was sent
        return False
    if run.status in {RunStatus.ENQUEUED, RunStatus.PLANNING}:
        planning.carry_out(run_id)
    while True:
        lease = leases.claim(run_id)
        if lease is None:
            return False
        may_go_on = _attempt(lease, until_s)
        is_over = time.monotonic() >= until_s
        if is_over or not may_go_on:
            return is_over


def _attempt(lease: Lease, until_s: float) -> bool:
    """One claim of a chunk, until it is done, has failed, or is given back; True if another may be claimed."""
    try:
        return _Attempt(lease, until_s).carried_out()
    except LeaseLost:
        journal.lease_lost(lease.chunk)
        return False
    except (*DB_ERRORS, InboxUnavailable, Differs) as error:
        _failed(lease, error)
        return True


def _failed(lease: Lease, error: Exception) -> None:
    """Tell how an attempt ended. If the database cannot be told, the lease expires."""
    connection = connections[host().database]
    if isinstance(error, DB_ERRORS):
        connection.close_if_unusable_or_obsolete()
    try:
        is_its_own = isinstance(error, Differs) or transactions.is_refusal(error)
        leases.fail(lease, journal.brief(error), is_its_own=is_its_own)
    except LeaseLost:
        journal.lease_lost(lease.chunk)
    except DB_ERRORS:
        journal.unreachable(lease.run.pk, error)
        raise


class _Attempt:
    """Fills or verifies a chunk batch by batch."""

    def __init__(self, lease: Lease, until_s: float) -> None:
        self._lease = lease
        self._until_s = until_s
        self._is_over = False
        self._left = spans.loaded(lease.chunk.steps)
        self._whole = spans.of_chunk(lease.chunk).workspaces
        largest_step = max((step.runs for step in self._left), default=1)
        self._batch = lease.run.batch or largest_step
        self._throttle = throttle.Throttle()

    def carried_out(self) -> bool:
        step = self._fill if self._lease.chunk.kind == Kind.FILL else self._verify
        while self._left:
            waiting = self._reason_to_stop()
            if waiting is not None:
                self._let_go(waiting)
                return False
            step()
            self._is_over = time.monotonic() >= self._until_s
        self._look()
        leases.finish(self._lease, batch=self._batch)
        return True

    def _reason_to_stop(self) -> str | None:
        """Why no other batch may begin; empty if it is for no reason of live traffic."""
        status = rows.runs().values_list("status", flat=True).get(pk=self._lease.run.pk)
        if status not in states.WORKING or self._is_over:
            return ""
        self._throttle = throttle.look()
        return str(self._throttle) if self._throttle.stops else None

    def _let_go(self, waiting: str) -> None:
        self._look()  # it may be long until somebody else comes to its end
        leases.release(self._lease, waiting=waiting)

    def _fill(self) -> None:
        batch, left = spans.next_batch(self._left, self._batch, self._lease.run.since)
        started_s = time.monotonic()

        def before_commit(written: int) -> None:
            leases.commit(self._lease, left, written=written, seconds=time.monotonic() - started_s)

        try:
            written = projection.raise_history(
                batch.workspaces, since=self._lease.run.since, settings=_limits(), before_commit=before_commit
            )
        except DatabaseError as error:
            self._batch = smaller = pace.shrunk(batch.runs)
            if transactions.sqlstate(error) != transactions.STATEMENT_TIMEOUT or batch.runs <= course.FLOOR:
                raise
            journal.batch_too_slow(self._lease.chunk, runs=batch.runs, smaller=smaller)
            leases.hold(self._lease)
            return
        took_s = time.monotonic() - started_s
        journal.batch_filled(self._lease.chunk, runs=batch.runs, rows=written, seconds=took_s)
        self._left = left
        self._adapt(batch, took_s)

    def _adapt(self, batch: Step, took_s: float) -> None:
        adapted = pace.adapted(batch.runs, took_s, may_grow=self._throttle.may_grow)
        # A batch that was small because its chunk ended says nothing about larger ones.
        self._batch = adapted if self._left or adapted < batch.runs else max(adapted, self._batch)

    def _look(self) -> None:
        """After the commits: what this chunk wrote and is not true any more is announced, so that a flush repairs it.
        All of its span, so what a worker wrote that died before it looked is looked at, too."""
        if self._lease.chunk.kind != Kind.FILL:
            return
        leases.hold(self._lease, reading=self._lease.chunk.planned)
        stale = projection.stale_in_range(self._whole)
        if stale:
            journal.announced(self._lease.chunk, rows=len(stale))
            dispatch.deliver({encode(row.run): row.shard for row in stale}, patient=True)

    def _verify(self) -> None:
        started_s = time.monotonic()
        batch, left = spans.whole_batch(self._left, conf.settings().audit_chunk)
        differences = repair.drift(batch.workspaces, self._lease.run.since)
        seconds = time.monotonic() - started_s
        if differences:
            leases.hold(self._lease, drift=len(differences))
            repair.repair(differences)
            raise Differs(f"{len(differences)} differences, the first: {differences[0].as_json()}")
        leases.commit(self._lease, left, seconds=seconds)
        self._left = left


def _limits() -> list[str]:
    """Limits of a transaction that fills: what waits for its rows waits no longer than that."""
    settings = conf.settings()
    statement_ms = round(settings.backfill_statement_timeout_s * 1000)
    # A worker that stands still must not keep its rows, nor its chunk: the server ends its session.
    idle_ms = round(settings.backfill_lease_s * 1000 / 2)
    return [
        f"SET LOCAL statement_timeout = {statement_ms}",
        f"SET LOCAL lock_timeout = {max(statement_ms // 4, 1)}",
        f"SET LOCAL idle_in_transaction_session_timeout = {idle_ms}",
        "SET LOCAL jit = off",  # compiling takes longer than a batch
    ]
