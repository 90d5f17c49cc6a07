"""A flush of one shard: a series of slices, each a transaction of its own, so a kill undoes no more than one.

A slice locks the shard, takes changes, advances or recomputes the rows that they concern, and forgets those changes.
All of it commits together. docs/design.md argues why the table is exact.

Invariant: a row is the newest over all runs of its key whose last change has been forgotten.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from workflows_tasks import conf
from workflows_tasks.capture.record import check_shards, installation
from workflows_tasks.errors import WrongShards
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog, changes, decisions, scopes, slices, transactions, writer
from workflows_tasks.projection.changes import Change, Scope
from workflows_tasks.projection.searches import Key
from workflows_tasks.projection.slices import Slice
from workflows_tasks.projection.transactions import DB_ERRORS
from workflows_tasks.sql import Sql, rows

BUSY_S: Final = 0.1
"""Seconds until ``flush_all`` asks again for shards that others hold."""

HOPELESS: Final = 100
"""If so many changes are refused one by one and none passes, the error is the shard's and not a change's."""


@dataclass(slots=True)
class Flushed:
    """What one flush did."""

    changes: int = 0
    rows: int = 0
    more: bool = False
    """Its time was over before the log was empty."""
    is_busy: bool = False
    """Another flush holds the shard."""


def flush(shard: int, *, nudge_failures: int = 0) -> Flushed:
    """Flush a shard until nothing can be taken, or a quarter of the time limit is over.

    Args:
        nudge_failures: failed nudges of the process that sent the message, to be counted.

    Raises:
        WrongShards: this process is set to another number of shards than the database.
        django.db.DatabaseError, django.db.InterfaceError: an error that every change meets. It is kept in the shard's
            row, and the changes stay in the log.
    """
    total = Flushed()
    until_s = time.monotonic() + conf.settings().flush_time_limit_s / 4
    if nudge_failures:
        slices.count(shard, nudge_failures=nudge_failures)
    try:
        while _flush_runs(shard, total, until_s) + _flush_scope(shard, total):  # "+" runs both, each time
            if time.monotonic() >= until_s:
                total.more = True
                break
    except slices.ShardBusy:
        total.is_busy = True
    except WrongShards as error:
        if has_changes(shard):  # else nobody would clear it
            slices.note_failure(shard, error, pause_s=None)  # another process's flush may come at once
        raise
    except DB_ERRORS as error:
        slices.note_failure(shard, error, pause_s=conf.settings().pause_s)
        raise
    return total


def flush_all(progress: Callable[[int], None] = lambda _: None, waits: Callable[[], None] = lambda: None) -> Flushed:
    """Flush, in this process, all changes that are there now.

    What is written meanwhile is not waited for, or this would never end beside writers.

    Args:
        progress: called with changes flushed.
        waits: called now and then while another session holds all shards that are left.

    Raises:
        as ``flush``.
    """
    total = Flushed()
    check_shards(installation().shards)
    while changes.deal_again():
        pass
    ((now,),) = rows(Sql("SELECT clock_timestamp()::text"))
    waiting = list(range(conf.settings().shards))
    while waiting:
        is_cut_short, before = False, total.changes
        for shard in waiting:
            done = flush(shard)
            progress(done.changes)
            total.changes += done.changes
            total.rows += done.rows
            total.is_busy = total.is_busy or done.is_busy
            is_cut_short = is_cut_short or done.is_busy or done.more
        while changes.deal_again():
            pass
        # What a scope was replaced by is younger than the scope, and may not be flushed yet.
        waiting = backlog.shards_pending(before=None if is_cut_short else now)
        if waiting and total.changes == before:
            waits()
            time.sleep(BUSY_S)
    return total


def has_changes(shard: int) -> bool:
    """Whether the shard has a change that can be taken."""
    return bool(backlog.shards_pending(only=shard))


def _flush_runs(shard: int, total: Flushed, until_s: float) -> bool:
    """One slice of changes of runs; True if there may be more."""
    try:
        with slices.hold(shard) as current:
            must_recompute, written, ages_s = decisions.advance(shard)
            if must_recompute:
                written = _recompute(current, changes.take_runs(shard))
            elif ages_s or written:
                current.finish(ages_s, {"rows_advanced": written})
    except DB_ERRORS as error:
        if not transactions.is_refusal(error):
            raise
        return _isolate(shard, total, until_s)
    total.changes += current.done
    total.rows += written
    return current.done > 0 or written > 0  # a full slice may have forgotten nothing yet


def _recompute(current: Slice, pending: Sequence[Change]) -> int:
    """Advance or recompute the rows of these changes, and forget them; returns how many rows were written."""
    writes, unfinished = decisions.decide(current.shard, list(dict.fromkeys(change.run for change in pending)))
    written = writer.write(writes)
    finished = _finished(pending, [*unfinished, *written.failed])
    changes.forget([each for change in finished for each in change.ids])
    current.finish([age_s for change in finished for age_s in change.ages_s], written.counts)
    return written.rows


def _finished(pending: Sequence[Change], unfinished: Sequence[Key]) -> list[Change]:
    """The changes to forget: of workspaces without an unfinished key. The others explain those keys meanwhile."""
    kept = {key.workspace for key in unfinished} | ({None} if unfinished else set())
    return [change for change in pending if change.workspace not in kept]


def _flush_scope(shard: int, total: Flushed) -> bool:
    """One slice of scopes of one lookup; True if there were any."""
    scope: Scope | None = None
    try:
        with slices.hold(shard) as current:
            scope = changes.take_scope(shard)
            if scope is None:
                return False
            _resolve(current, scope)
    except DB_ERRORS as error:
        if scope is None or not transactions.is_refusal(error):
            raise
        for number in range(len(scope.keys)):
            _narrow_down(shard, scope._replace(ids=scope.ids[number:][:1], keys=scope.keys[number:][:1]))
    total.changes += len(scope.keys)
    return True


def _resolve(current: Slice, scope: Scope) -> None:
    parts = scopes.resolve(current.shard, scope)
    current.finish([], {"scopes_split": int(parts > 0)})
    if parts:
        telemetry.scope_split(shard=current.shard, what=str(scope), parts=parts)


def _narrow_down(shard: int, scope: Scope) -> None:
    """Resolve one scope in which the database may refuse something. If so split it, and if that fails quarantine it."""
    steps: tuple[Callable[[Slice], object], ...] = (
        lambda current: _resolve(current, scope),
        lambda current: scopes.split_refused(current.shard, scope),
    )
    for step in steps:
        try:
            with slices.hold(shard) as current:
                step(current)
        except DB_ERRORS as error:
            if not transactions.is_refusal(error):
                raise
            reason = telemetry.brief(error)
        else:
            return
    with slices.hold(shard):
        changes.quarantine(scope.ids, reason)
    telemetry.quarantined(shard=shard, what=str(scope), why=reason)


def _isolate(shard: int, total: Flushed, until_s: float) -> bool:
    """Find the changes that the database refuses, by halving, and quarantine them. Returns True: the flush goes on.

    A change is quarantined only once something else has passed in this flush. A change that was in quarantine before
    goes straight back. Each workspace is tried by itself first. The halves of a refused part go to the end of the
    queue. So a refused change of one workspace holds up no other one.

    Raises:
        django.db.DatabaseError: nothing has passed when the time is over, or ``HOPELESS`` changes were refused. Then
            the error is the shard's.
    """
    with slices.hold(shard):
        pending = changes.take_runs(shard)
    parts = deque(_by_workspace(pending))
    refused: list[tuple[Change, BaseException]] = []
    has_passed = len(pending) == 1 and total.changes > 0  # then the database took others
    while parts and time.monotonic() < until_s:
        part = parts.popleft()
        try:
            with slices.hold(shard) as current:
                total.rows += _recompute(current, part)
        except DB_ERRORS as error:
            if not transactions.is_refusal(error):
                raise
            if len(part) > 1:
                parts += [part[: len(part) // 2], part[len(part) // 2 :]]
            elif part[0].was_refused:
                _quarantine(shard, part[0], error)
            else:
                refused.append((part[0], error))
        else:
            has_passed = True
            total.changes += current.done
        if not has_passed and len(refused) >= HOPELESS:
            break
        while has_passed and refused:
            _quarantine(shard, *refused.pop())
    if refused:
        raise refused[0][1]
    return True


def _by_workspace(pending: Sequence[Change]) -> list[list[Change]]:
    parts: dict[str | None, list[Change]] = {}
    for change in pending:
        parts.setdefault(change.workspace, []).append(change)
    return list(parts.values())


def _quarantine(shard: int, change: Change, reason: BaseException) -> None:
    with slices.hold(shard) as current:
        changes.quarantine(change.ids, telemetry.brief(reason))
        current.finish([], {"quarantined": 1})
    telemetry.quarantined(shard=shard, what=f"run={change.run}", why=telemetry.brief(reason))
