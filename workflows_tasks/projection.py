"""The only writer of the table.

Three moves, each one set-based statement or a few, whatever the number of ids:

``raise_rows``   candidates among the changed runs go up:  newer than the row, or no row yet
``stale_rows``   rows whose run is gone, hidden, moved or backdated
``lower_rows``   such rows get the next newest run, or go

``write`` composes them under the shard's lock; ``fill`` is the bulk form of ``raise_rows`` for history, without the
lock. docs/design.md argues why the result is exact. In short: a row is the newest over all runs whose last change has
been flushed. Raising keeps that, because a candidate is read after the lock was granted. A stale row is found after
the commit that wrote it, so a run that moved away while we wrote is noticed either here or by the flush of its own
announcement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from workflows_tasks import transactions
from workflows_tasks.host import host
from workflows_tasks.ids import ROWS, Scope
from workflows_tasks.sql import looks, writes
from workflows_tasks.sql.fragments import EVERYWHERE, Statement, Workspaces, prepared

LIGHT: Final = 5_000
"""A workspace of at most this many runs is read whole when the newest of a key is searched."""

PAGES: Final = (1_000, 30_000)
"""How far down the runs of a heavier one ``newest`` walks before it searches by workflow."""

BRANCHES: Final = 20
"""Most keys of heavy workspaces searched in one statement."""

LOOKS: Final = 5
"""Most times that what a write wrote is looked at; what still changes then is left to the next flush."""

T = TypeVar("T")


Remember = Callable[[list[Any]], None]


def _nothing(_: object) -> None:
    pass


class StaleRow(NamedTuple):
    """A row that does not say the truth, as it was read; its time is in UTC, without zone (``fragments.in_utc``)."""

    shard: int
    workspace: Any
    uid: str
    workflow: Any
    used_at: Any
    run: Any

    @property
    def key(self) -> tuple[Any, str, Any]:
        return self.workspace, self.uid, self.workflow


class Found(NamedTuple):
    """The newest run left for a stale row's key; None, None where none is."""

    row: StaleRow
    used_at: Any
    run: Any


@dataclass(slots=True)
class Written:
    """What a write did, and the runs other shards must look at: run key -> shard."""

    raised: int = 0
    lowered: int = 0
    removed: int = 0
    retries: int = 0
    elsewhere: dict[Any, int] = field(default_factory=dict)

    def again(self) -> None:
        self.retries += 1

    @property
    def rows(self) -> int:
        return self.raised + self.lowered + self.removed

    @property
    def counts(self) -> dict[str, int]:
        """By the names of ``events.COUNTERS``."""
        return {
            "rows_raised": self.raised,
            "rows_lowered": self.lowered,
            "rows_removed": self.removed,
            "retries": self.retries,
        }


def write(
    shard: int, runs: Sequence[Any], scopes: Sequence[Scope] = (), *, about_to_name: Remember = _nothing
) -> Written:
    """Make every row of ``shard`` that these runs concern say the truth. Idempotent; any order; committed on return.

    Args:
        shard: the shard to lock and write. Runs whose rows are elsewhere are returned, not written.
        runs: primary keys of changed runs, existing or not.
        scopes: what else changed.
        about_to_name: called before rows are committed, with the runs that they will name beyond ``runs``. It must
            remember those as ``runs`` are remembered, for a crash after the commit: any of them may have moved
            meanwhile. If ``runs`` themselves are not remembered any more it must raise, and nothing is committed.

    Raises:
        django.db.DatabaseError: nothing of the failed step was written; the runs must be written again.
    """
    written = Written()
    suspects = prepared(host().run_key, runs)
    if suspects:
        transactions.retried(shard, partial(_raise, shard, suspects, written, about_to_name), written.again)
    for scope in scopes:
        if scope.part == ROWS:
            written.elsewhere |= untrue_runs(scope)
        else:
            step = partial(_raise_scope, shard, scope, written, about_to_name)
            suspects = suspects + transactions.retried(shard, step, written.again)
    # After the commit, without the lock: what is seen here is only looked at again, under the lock.
    for _ in range(LOOKS):
        stale = _of_shard(shard, stale_rows(suspects), written)
        if not stale:
            return written
        step = partial(_lower, shard, stale, written, about_to_name)
        suspects = transactions.retried(shard, step, written.again)
    written.elsewhere |= dict.fromkeys(suspects, shard)  # they change faster than we write: once more, a window later
    return written


def _raise(shard: int, runs: Sequence[Any], written: Written, about_to_name: Remember) -> None:
    with transactions.locked(shard):
        raised, elsewhere = raise_rows(shard, runs)
        if raised:
            about_to_name([])
    written.raised += raised
    written.elsewhere |= elsewhere


def _raise_scope(shard: int, scope: Scope, written: Written, about_to_name: Remember) -> list[Any]:
    """Raise rows to runs that a scope reaches; returns the runs that they name now, to be looked at."""
    with transactions.locked(shard, statement=1 / 2), transactions.cursor() as cursor:
        cursor.execute(*writes.raise_scope(shard, scope))
        named = [run for (run,) in cursor.fetchall()]
        if named:
            about_to_name(named)
    written.raised += len(named)
    return named


def _lower(shard: int, rows: Sequence[StaleRow], written: Written, about_to_name: Remember) -> list[Any]:
    """Lower rows; returns the runs that they name now, to be looked at."""
    with transactions.locked(shard):
        found = newest(rows)
        named = [each.run for each in found if each.run is not None]
        if named:
            about_to_name(named)
        lowered, removed = lower_rows(found)
    written.lowered += lowered
    written.removed += removed
    return named


def _of_shard(shard: int, rows: Sequence[StaleRow], written: Written) -> list[StaleRow]:
    written.elsewhere |= {row.run: row.shard for row in rows if row.shard != shard}
    return [row for row in rows if row.shard == shard]


def raise_rows(shard: int, runs: Sequence[Any]) -> tuple[int, dict[Any, int]]:
    """Write the newest of ``runs`` for each key of ``shard`` where it is newer than the row.

    Returns:
        rows written; and runs whose workspace belongs to another shard, with that shard.
    """
    with transactions.cursor() as cursor:
        cursor.execute(*writes.raise_rows(shard, runs))
        rows = cursor.fetchall()
    return sum(raised for _, _, raised in rows), {run: other for run, other, _ in rows if other is not None}


def stale_rows(runs: Sequence[Any]) -> list[StaleRow]:
    """Rows, of any shard, whose ``last_run`` is among ``runs`` and is not there as they say."""
    if not runs:
        return []
    with transactions.read_committed(*transactions.limits()), transactions.cursor() as cursor:
        cursor.execute(*looks.stale_rows(runs))
        return [StaleRow(*row) for row in cursor.fetchall()]


def untrue_runs(scope: Scope) -> dict[Any, int]:
    """The runs of a workspace's or workflow's rows that are not true, with the shards that must look at them."""
    with transactions.read_committed(*transactions.limits(statement=1 / 2)), transactions.cursor() as cursor:
        cursor.execute(*looks.untrue_rows_of(scope))
        return dict(cursor.fetchall())


def newest(rows: Sequence[StaleRow]) -> list[Found]:
    """The newest run that is left for each stale row's key.

    Small workspaces are read whole, all at once. In a heavy one the newest runs are walked, since the one looked for
    is nearly always among them; only what is not met there is searched by workflow, which may take seconds.
    """
    with transactions.cursor() as cursor:
        workspaces = list({row.workspace for row in rows})
        cursor.execute(*writes.heavy_workspaces(workspaces, LIGHT))
        heavy = {workspaces[position] for (position,) in cursor.fetchall()}
        small = [row for row in rows if row.workspace not in heavy]
        found = _found(cursor, small, writes.newest_in_light([row.key for row in small])) if small else []
        missing = [row for row in rows if row.workspace in heavy]
        for page in (*PAGES, None):
            walked = [
                each
                for some in _chunks(missing, BRANCHES)
                for each in _found(cursor, some, writes.newest_in_heavy([row.key for row in some], page))
            ]
            found += [each for each in walked if each.run is not None or page is None]
            missing = [each.row for each in walked if each.run is None]
    return found


def _found(cursor: Any, rows: Sequence[StaleRow], search: Statement) -> list[Found]:
    cursor.execute(*search)
    met = {position: (used_at, run) for position, used_at, run in cursor.fetchall()}
    return [Found(row, *met.get(position, (None, None))) for position, row in enumerate(rows)]


def _chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def lower_rows(found: Sequence[Found]) -> tuple[int, int]:
    """Write what was found, or delete the row, where the row still is as it was read. Returns (lowered, removed).

    A row that changed since was raised by ``fill``, which takes no lock and verifies what it wrote.
    """
    with transactions.cursor() as cursor:
        rows = [(*each.row.key, each.row.used_at, each.row.run, each.used_at, each.run) for each in found]
        cursor.execute(*writes.lower_rows(rows))
        lowered, removed = cursor.fetchone()
    return lowered, removed


def fill(workspaces: Workspaces = EVERYWHERE) -> tuple[int, list[StaleRow]]:
    """Raise the rows of all runs of a range of workspaces that history counts.

    Bulk: one statement, no shard lock, only upwards, so it may run beside live traffic. Committed on return, then
    verified.

    Returns:
        rows written; and rows of the range that do not say the truth, whose runs the caller must announce, so that a
        flush repairs them under its lock.
    """
    return raise_history(workspaces), stale_in_range(workspaces)


def raise_history(
    workspaces: Workspaces,
    *,
    since: Any = None,
    settings: Sequence[str] = (),
    before_commit: Callable[[int], None] = _nothing,
) -> int:
    """The writing half of ``fill``. The caller must then look at what is ``stale_in_range``, and announce it.

    Args:
        since: only runs used at that moment or later.
        settings: ``SET LOCAL`` statements of the transaction.
        before_commit: called with the number of rows written, inside the transaction; what it writes is committed
            with them, and nothing is if it raises.

    Returns:
        rows written.
    """

    def once() -> int:
        with transactions.read_committed(*settings), transactions.cursor() as cursor:
            cursor.execute(*writes.fill(workspaces, since))
            rows = int(cursor.fetchone()[0])
            before_commit(rows)
            return rows

    return transactions.retried(-1, once)


def stale_in_range(workspaces: Workspaces) -> list[StaleRow]:
    """Rows that a fill of this range can have written and that do not say the truth."""
    with transactions.cursor() as cursor:
        cursor.execute(*looks.stale_in_range(workspaces))
        return [StaleRow(*row) for row in cursor.fetchall()]
