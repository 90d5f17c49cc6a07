"""The chain: each flush of a shard sends the message of the next, until one finds nothing. There is one chain a shard.

The shard's row says when its next flush is due, and a message says for which due time it was sent. A flush that finds
another one due sends none, so several chains become one again. Otherwise each message of a process without Redis would
begin a chain of its own, and messages would grow with the saves.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from celery import current_app

from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.models import Shard
from workflows_tasks.monitoring import spans
from workflows_tasks.projection.flush import Flushed, flush, has_changes
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.transactions import DB_ERRORS
from workflows_tasks.sql import Sql, execute, quoted, rows, value

CHANGES_A_WINDOW: Final = 5
"""After a flush of so many changes the next one is due a whole window later. After fewer it is due sooner."""

_DUE: Final = "(extract(epoch FROM due_at) * 1000000)::bigint, extract(epoch FROM due_at - clock_timestamp())::float8"


@dataclass(frozen=True, slots=True)
class Due:
    """When the next flush is due."""

    moment_us: int
    """Unix time by the database's clock, in microseconds. The flush message carries it."""
    in_s: float


def run(shard: int, *, due_us: int | None = None, gated: bool = False, nudge_failures: int = 0) -> None:
    """Do what a flush message asks: flush the shard, and see that the next flush comes if there is to be one.

    Args:
        due_us: the due time that the message was sent for, if a flush sent it.
        gated: its sender is without Redis, and sends no other for most of a window. So the chain must last a window.
        nudge_failures: failed nudges of its sender, to be counted.

    Raises:
        as ``flush.flush``.
    """
    if gated:
        with suppress(*DB_ERRORS):  # the flush below meets it too, and reports it
            execute(_stay_awake(shard))
    with spans.span("flush", shard=shard) as tell:
        done = flush(shard, nudge_failures=nudge_failures)
        tell(changes=done.changes, rows=done.rows, is_busy=done.is_busy)
    if done.is_busy or current_app.conf.task_always_eager:
        return  # the flush that holds the shard goes on until it finds nothing; an eager task would run now, not later
    # Ask after the flush: the one that was due may have come meanwhile, found the shard busy, and ended.
    another = _due(_another(shard, due_us))
    following = another or _due(_next(shard, done))
    if following is None:
        nudge.unmark(shard)
        if has_changes(shard):  # committed between the last look and the marker's end
            nudge.nudge(shard)
        return
    nudge.mark(shard, following.in_s)
    if not another and not nudge.send(shard, wait_s=following.in_s, due_us=following.moment_us):
        nudge.unmark(shard)
        execute(compose("UPDATE {table} SET due_at = NULL WHERE number = {shard}", table=_table(), shard=shard))


def _due(statement: Sql) -> Due | None:
    moment_us, in_s = next(iter(rows(statement)), (None, 0.0))
    return None if moment_us is None else Due(moment_us, max(in_s, 0.0))


def _stay_awake(shard: int) -> Sql:
    return compose(
        "UPDATE {table} SET awake_until = clock_timestamp() + {window_s} * interval '1 s' WHERE number = {shard}",
        table=_table(), window_s=value(conf.settings().flush_window_s, "float8"), shard=shard,
    )  # fmt: skip


def _another(shard: int, due_us: int | None) -> Sql:
    """Query of the flush that is still to come, unless this message was sent for it. Empty while flushes fail."""
    return compose(
        """SELECT {due} FROM {table} WHERE number = {shard} AND due_at > clock_timestamp() AND failing_since IS NULL
            AND (extract(epoch FROM due_at) * 1000000)::bigint IS DISTINCT FROM {due_us}""",
        due=_DUE, table=_table(), shard=shard, due_us=value(due_us, "bigint"),
    )  # fmt: skip


def _next(shard: int, done: Flushed) -> Sql:
    """Note when the next flush is due; null ends the chain."""
    share = 0.0 if done.more else min(1.0, done.changes / CHANGES_A_WINDOW)
    wait_s = value(share * conf.settings().flush_window_s if done.changes else None, "float8")
    return compose(
        """UPDATE {table} SET
            due_at = CASE WHEN {wait_s} IS NOT NULL THEN clock_timestamp() + {wait_s} * interval '1 s'
                          WHEN awake_until > clock_timestamp() THEN awake_until END,
            awake_until = CASE WHEN awake_until > clock_timestamp() THEN awake_until END
        WHERE number = {shard} AND ({wait_s} IS NOT NULL OR due_at IS NOT NULL OR awake_until IS NOT NULL)
        RETURNING {due}""",
        table=_table(), wait_s=wait_s, shard=shard, due=_DUE,
    )  # fmt: skip


def _table() -> str:
    return quoted(Shard._meta.db_table)
