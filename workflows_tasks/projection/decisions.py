"""Decide what becomes of each row that changed runs concern. Nearly always rows only advance, by one statement.

A row is looked at only if it names one of these runs, or if one of them has its key. If any other row's run changed,
that run's own change is still in the log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from workflows_tasks.keys import text_of
from workflows_tasks.projection import searches, writer
from workflows_tasks.projection.fragments import compose, fragments, in_shard, keyed, newest_per_key
from workflows_tasks.projection.searches import Key, Newest
from workflows_tasks.projection.writer import ADVANCE, RECOMPUTE, Write
from workflows_tasks.sql import Sql, keys, rows

MOST_RECOMPUTED: Final = 5_000
"""Rows that one slice recomputes at most. The next slice goes on with the others."""

SEARCH_S: Final = 0.5
"""Seconds after which a slice begins no further search."""

_OF_RUNS: Final = """
WITH taken AS MATERIALIZED (
    SELECT * FROM {live} WHERE live.run = ANY({runs}) AND {in_shard}
), compared AS MATERIALIZED (
    SELECT newest.*, stored.last_used_at AS was_used_at, stored.last_run_id AS was_run,
           coalesce((newest.used_at, newest.run) > (stored.last_used_at, stored.last_run_id), true) AS is_newer
    FROM {newest} LEFT JOIN {table} AS stored ON (stored.workspace_id, stored.uid, stored.published_run_id)
                                               = (newest.workspace, newest.uid, newest.workflow)
), not_true AS MATERIALIZED (
    SELECT workspace_id AS workspace, uid, published_run_id AS workflow, last_used_at AS was_used_at,
           last_run_id AS was_run
    FROM {table} AS stored WHERE last_run_id = ANY({runs}) AND {stored_in_shard}
      AND (last_run_id, workspace_id, uid, published_run_id) NOT IN (SELECT run, workspace, uid, workflow FROM {keyed})
    UNION
    SELECT workspace, uid, workflow, was_used_at, was_run FROM compared
    WHERE (used_at, run) < (was_used_at, was_run) AND was_run = ANY({runs})
), {rest}
"""


def _of_runs(shard: int, runs: Sequence[str], rest: Sql) -> Sql:
    """A statement about these runs. ``compared`` has the newest of each key beside its row.

    ``not_true`` has the rows to recompute: their runs are gone, do not count, have another key, or are older than the
    row says.

    ``NOT IN`` is always hashed. A join would be as fast only while the planner knows how many runs there are.
    """
    taken = Sql("taken AS live")
    return compose(
        _OF_RUNS,
        runs=keys(runs, fragments().run_type), in_shard=in_shard("live.workspace", shard),
        newest=newest_per_key(taken, "true"), keyed=keyed(taken, "true"),
        stored_in_shard=in_shard("stored.workspace_id", shard), rest=rest,
    )  # fmt: skip


def advance(shard: int, runs: Sequence[str]) -> tuple[int, bool]:
    """Advance the rows of these runs, unless one must be recomputed; returns rows written, and whether one must be.

    Nearly every slice only advances, so it reads and writes by this one statement. If one row must be recomputed,
    nothing is written here, because both kinds must be written in one key order.
    """
    newer = Sql(
        "SELECT workspace, uid, workflow, used_at, run FROM compared "
        "WHERE is_newer AND NOT EXISTS (SELECT FROM not_true) ORDER BY workspace, uid, workflow"
    )
    written = "written AS (" + writer.upsert(newer) + ")"
    rest = written + " SELECT (SELECT count(*) FROM written), EXISTS (SELECT FROM not_true)"
    ((advanced, must_recompute),) = rows(_of_runs(shard, runs, rest))
    return advanced, must_recompute


def decide(shard: int, runs: Sequence[str]) -> tuple[list[Write], list[Key]]:
    """What the rows that these runs concern should become, in key order; and keys that it has no time to search."""
    planned = [
        Write(kind, Key(workspace, uid, workflow), Newest(was_used_at, was_run), Newest(used_at, run))
        for kind, workspace, uid, workflow, was_used_at, was_run, used_at, run in rows(_concerned(shard, runs))
    ]
    to_search = [write.key for write in planned if write.kind == RECOMPUTE][:MOST_RECOMPUTED]
    newest = searches.newest(to_search, until_s=time.monotonic() + SEARCH_S)
    writes, unfinished = [], []
    for write in planned:
        if write.kind == ADVANCE:
            writes.append(write)
        elif write.key in newest:
            writes.append(write._replace(new=newest[write.key]))
        else:
            unfinished.append(write.key)
    return writes, unfinished


_CONCERNED: Final = """concerned AS (
    SELECT '{recompute}' AS kind, not_true.*, NULL::timestamptz AS used_at, NULL::{run_type} AS run FROM not_true
    UNION ALL
    SELECT '{advance}', workspace, uid, workflow, was_used_at, was_run, used_at, run FROM compared
    WHERE is_newer AND (workspace, uid, workflow) NOT IN (SELECT workspace, uid, workflow FROM not_true)
)
SELECT kind, {workspace}, uid, {workflow}, was_used_at::text, {was_run}, used_at::text, {run}
FROM concerned ORDER BY concerned.workspace, concerned.uid, concerned.workflow"""


def _concerned(shard: int, runs: Sequence[str]) -> Sql:
    """What to write for these runs, in key order: kind, key, the row as it is, and the newest of these runs."""
    concerned = compose(
        _CONCERNED,
        advance=ADVANCE, recompute=RECOMPUTE, workspace=text_of("workspace"), workflow=text_of("workflow"),
        was_run=text_of("was_run"), run=text_of("run"),
    )  # fmt: skip
    return _of_runs(shard, runs, concerned)
