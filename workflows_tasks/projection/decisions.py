"""What becomes of each row that changed runs concern. Nearly always rows only advance: one statement does all of it.

A row is looked at only if it names one of these runs, or if one of them has its key. If any other row's run changed,
that run's own change is still in the log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from workflows_tasks.keys import text_of
from workflows_tasks.projection import changes, searches, writer
from workflows_tasks.projection.fragments import compose, fragments, in_shard, newest_per_key, not_true
from workflows_tasks.projection.searches import Key, Newest
from workflows_tasks.projection.writer import Write
from workflows_tasks.sql import Sql, keys, rows

MOST_RECOMPUTED: Final = 5_000
"""Rows that one slice recomputes at most. The next slice goes on with the others."""

SEARCH_S: Final = 0.5
"""Seconds after which a slice begins no further search."""

_OF_RUNS: Final = """
WITH RECURSIVE {first}_not_true AS MATERIALIZED (
    SELECT * FROM {table} AS stored WHERE last_run_id = ANY({runs}) AND {stored_in_shard} AND {not_true}
), _newest AS MATERIALIZED (
    SELECT * FROM {newest}
), {rest}
"""


def _of_runs(shard: int, runs: Sql, rest: Sql, first: Sql | str = "") -> Sql:
    """A statement about these runs. ``_newest`` has the newest of each key that they have now.

    ``_not_true`` has the rows to recompute: they name one of these runs, which is gone, does not count, has another
    key, or is older than the row says.
    """
    of_runs = compose("live.run = ANY({runs}) AND {in_shard}", runs=runs, in_shard=in_shard("live.workspace", shard))
    return compose(
        _OF_RUNS,
        first=first, runs=runs, stored_in_shard=in_shard("stored.workspace_id", shard), not_true=not_true(),
        newest=newest_per_key(fragments().live, of_runs), rest=rest,
    )  # fmt: skip


class Advanced(NamedTuple):
    """What a slice did that only advanced rows."""

    must_recompute: bool
    """It did nothing, because a row must be recomputed."""
    rows: int
    ages_s: list[float]
    """How long before the slice began each change was written that it forgot."""


_ADVANCED: Final = """_written AS ({upsert}), _forgotten AS (
    DELETE FROM {log} WHERE ctid = ANY(ARRAY(SELECT place FROM _picked)) AND NOT EXISTS (SELECT FROM _not_true)
    RETURNING extract(epoch FROM now() - at)::float8 AS age_s
)
SELECT EXISTS (SELECT FROM _not_true), (SELECT count(*) FROM _written),
       coalesce((SELECT array_agg(age_s) FROM _forgotten), '{{}}')"""


def advance(shard: int) -> Advanced:
    """Take changes, advance the rows that they concern, and forget them, unless a row must be recomputed.

    Nearly every slice only advances, so it is this one statement, of one snapshot. If one row must be recomputed,
    nothing is written here, because both kinds must be written in one key order.
    """
    given = Sql(
        "SELECT workspace, uid, workflow, used_at, run FROM _newest "
        "WHERE NOT EXISTS (SELECT FROM _not_true) ORDER BY workspace, uid, workflow"
    )
    # An array made by a query: the planner takes it for a few runs, and looks each up by its key.
    runs = compose("(SELECT array_agg(DISTINCT run) FROM _picked)::{run_type}[]")
    statement = _of_runs(
        shard, runs, compose(_ADVANCED, upsert=writer.upsert(given)), first=changes.picked(shard) + ", "
    )
    with changes.in_index_order():
        ((must_recompute, written, ages_s),) = rows(statement)
    return Advanced(must_recompute, written, ages_s)


def decide(shard: int, runs: Sequence[str]) -> tuple[list[Write], list[Key]]:
    """What the rows that these runs concern should become, in key order; and keys that it has no time to search."""
    concerned = [
        Write(Key(workspace, uid, workflow), Newest(used_at, run), row, Newest(was_used_at, was_run))
        for workspace, uid, workflow, used_at, run, row, was_used_at, was_run in rows(_concerned(shard, runs))
    ]
    to_search = [write.key for write in concerned if write.row is not None][:MOST_RECOMPUTED]
    newest = searches.newest(to_search, until_s=time.monotonic() + SEARCH_S)
    writes, unfinished = [], []
    for write in concerned:
        if write.row is None:
            writes.append(write)
        elif write.key in newest:
            writes.append(write._replace(new=newest[write.key]))
        else:
            unfinished.append(write.key)
    return writes, unfinished


_CONCERNED: Final = """_concerned AS (
    SELECT workspace, uid, workflow, used_at, run, NULL::bigint AS row, NULL::timestamptz AS was_used_at,
           NULL::{run_type} AS was_run
    FROM _newest
    WHERE (workspace, uid, workflow) NOT IN (SELECT workspace_id, uid, published_run_id FROM _not_true)
    UNION ALL
    SELECT workspace_id, uid, published_run_id, NULL, NULL, id, last_used_at, last_run_id FROM _not_true
)
SELECT {workspace}, uid, {workflow}, used_at::text, {run}, row, was_used_at::text, {was_run}
FROM _concerned AS concerned ORDER BY concerned.workspace, concerned.uid, concerned.workflow"""


def _concerned(shard: int, runs: Sequence[str]) -> Sql:
    """In key order, each key that these runs concern: with the newest of them, or with the row to recompute."""
    concerned = compose(
        _CONCERNED,
        workspace=text_of("workspace"), workflow=text_of("workflow"), run=text_of("run"), was_run=text_of("was_run"),
    )  # fmt: skip
    return _of_runs(shard, keys(runs, fragments().run_type), concerned)
