"""The only writer of the table.

Rows are written in key order (workspace, uid, workflow), so that two writers never deadlock. An advance inserts
a row, or updates one that is older than the new run. A recompute writes a row only if it is still as it was read. So a
flush and a backfill, which does not lock the shard, cannot undo each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from workflows_tasks.projection.fragments import COLUMNS, KEY, compose, fragments, newest_per_key
from workflows_tasks.projection.ranges import Range
from workflows_tasks.projection.searches import Key, Newest
from workflows_tasks.sql import Sql, join, keys, rows


class Write(NamedTuple):
    """What a row should become: ``new`` if that is newer, or, for a row to recompute, ``new`` whatever it is."""

    key: Key
    new: Newest
    """If none is left, the row is deleted."""
    row: int | None
    """The ``id`` of the row to recompute, which is written only if it still is ``was``; None for an advance."""
    was: Newest


@dataclass(slots=True)
class Written:
    """How many rows were advanced, recomputed and removed, and the keys whose row was not as it was read."""

    advanced: int = 0
    recomputed: int = 0
    removed: int = 0
    failed: tuple[Key, ...] = ()

    @property
    def rows(self) -> int:
        return self.advanced + self.recomputed + self.removed

    @property
    def counts(self) -> dict[str, int]:
        """By the names of ``telemetry.COUNTERS``."""
        return {
            "rows_advanced": self.advanced, "rows_recomputed": self.recomputed, "rows_removed": self.removed,
        }  # fmt: skip


def write(writes: Sequence[Write]) -> Written:
    """Write rows. They come in key order, and are written in it: one statement for each series of one kind."""
    total = Written()
    for advances, group in groupby(writes, key=lambda each: each.row is None):
        if advances:
            total.advanced += _advance(list(group))
            continue
        recomputed, removed, failed = _recompute(list(group))
        total.recomputed += recomputed
        total.removed += removed
        total.failed += failed
    return total


def _advance(writes: Sequence[Write]) -> int:
    given = _given(
        {
            "workspace": [each.key.workspace for each in writes],
            "uid": [each.key.uid for each in writes],
            "workflow": [each.key.workflow for each in writes],
            "used_at": [each.new.used_at for each in writes],
            "run": [each.new.run for each in writes],
        }
    )
    source = compose(
        """SELECT workspace::{workspace_type}, uid, workflow::{workflow_type}, used_at::timestamptz, run::{run_type}
        FROM {given} ORDER BY position""",
        given=given,
    )
    ((written,),) = rows(_counted(upsert(source)))
    return int(written)


def upsert(source: Sql) -> Sql:
    """Insert rows, or advance those that are older, whoever wrote in between. ``source`` must be in key order."""
    return compose(
        """INSERT INTO {table} AS stored ({columns}) {source}
        ON CONFLICT ({key}) DO UPDATE
        SET last_used_at = excluded.last_used_at, last_run_id = excluded.last_run_id
        WHERE (excluded.last_used_at, excluded.last_run_id) > (stored.last_used_at, stored.last_run_id)
        RETURNING 1""",
        columns=COLUMNS, key=KEY, source=source,
    )  # fmt: skip


def _counted(statement: Sql) -> Sql:
    return compose("WITH written AS ({statement}) SELECT count(*) FROM written", statement=statement)


_RECOMPUTE_ROWS: Final = """
WITH locked AS MATERIALIZED (
    SELECT stored.id, given.position, given.was_used_at::timestamptz AS was_used_at,
           given.was_run::{run_type} AS was_run, given.used_at::timestamptz AS used_at,
           given.run::{run_type} AS run
    FROM {table} AS stored JOIN {given} ON stored.id = given.id::bigint
    WHERE (stored.last_used_at, stored.last_run_id)
        = (given.was_used_at::timestamptz, given.was_run::{run_type})
    ORDER BY given.position
    FOR UPDATE OF stored
), recomputed AS (
    UPDATE {table} AS stored SET last_used_at = locked.used_at, last_run_id = locked.run
    FROM locked WHERE stored.id = locked.id AND locked.run IS NOT NULL
      AND (stored.last_used_at, stored.last_run_id) = (locked.was_used_at, locked.was_run)
    RETURNING locked.position
), removed AS (
    DELETE FROM {table} AS stored USING locked
    WHERE stored.id = locked.id AND locked.run IS NULL
      AND (stored.last_used_at, stored.last_run_id) = (locked.was_used_at, locked.was_run)
    RETURNING locked.position
)
SELECT position - 1, true FROM recomputed UNION ALL SELECT position - 1, false FROM removed
"""


def _recompute(writes: Sequence[Write]) -> tuple[int, int, tuple[Key, ...]]:
    """Set rows to the newest run that is left, or delete them, where they still are as they were read.

    The rows are locked in key order first. Then the condition is checked on the locked row, which is the newest
    version. A check of the snapshot's version alone would overwrite what a backfill wrote meanwhile.
    """
    given = _given(
        {
            "id": [str(each.row) for each in writes],
            "was_used_at": [each.was.used_at for each in writes],
            "was_run": [each.was.run for each in writes],
            "used_at": [each.new.used_at for each in writes],
            "run": [each.new.run for each in writes],
        }
    )
    statement = compose(
        _RECOMPUTE_ROWS,
        given=given,
    )
    done = dict(rows(statement))
    failed = tuple(each.key for position, each in enumerate(writes) if position not in done)
    recomputed = sum(done.values())
    return recomputed, len(done) - recomputed, failed


def _given(columns: dict[str, list[str | None]]) -> Sql:
    """Columns of text as a table, with each row's position."""
    arrays = join(", ", [keys(column) for column in columns.values()])
    return compose(
        "unnest({arrays}) WITH ORDINALITY AS given({names}, position)", arrays=arrays, names=", ".join(columns)
    )


def fill(among: Range) -> int:
    """Advance the rows of all runs of a range that history counts, by one statement, without a lock; returns rows.

    The caller must look over the range's rows in a later transaction (``history.recheck_filled``): a run may be gone
    between this statement's snapshot and its commit.
    """
    return advance(newest_per_key(fragments().history, among.where("live.workspace", "live.run")))


def advance(newest: Sql) -> int:
    """Advance rows to the newest runs of their keys, by one statement, in key order; returns rows written.

    Rows that need no write are not even locked, so looking at the same runs again costs little. Each row is searched as
    the first of its user from its workflow on. By its exact key, the planner may search it in the index of pages, which
    lacks the workflow, and then reads all rows of the user.

    Args:
        newest: as ``newest_per_key`` makes it.
    """
    source = compose(
        """SELECT newest.workspace, newest.uid, newest.workflow, newest.used_at, newest.run
        FROM {newest} LEFT JOIN LATERAL (
            SELECT stored.published_run_id AS workflow, stored.last_used_at, stored.last_run_id FROM {table} AS stored
            WHERE stored.workspace_id = newest.workspace::{workspace_type} AND stored.uid = newest.uid
              AND stored.published_run_id >= newest.workflow::{workflow_type}
            ORDER BY stored.published_run_id LIMIT 1
        ) AS present ON present.workflow = newest.workflow
        WHERE present.workflow IS NULL OR (newest.used_at, newest.run) > (present.last_used_at, present.last_run_id)
        ORDER BY newest.workspace, newest.uid, newest.workflow""",
        newest=newest,
    )
    ((written,),) = rows(_counted(upsert(source)))
    return int(written)
