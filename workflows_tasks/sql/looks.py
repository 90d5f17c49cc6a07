"""Statements that look: at a page, for rows that are not true, for runs that are newer than their row, for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import connections

from workflows_tasks.host import host, storage_field
from workflows_tasks.ids import Scope
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql.fragments import (
    Statement,
    Workspaces,
    counted_by_history,
    fragments,
    in_utc,
    newest_per_key,
    prepared,
    rises,
    shard_sql,
    stale,
    untrue,
    workspaces_of_runs,
)  # fmt: skip


def newest_rows(using: str, workspace: Any, uid: str, limit: int) -> Statement:
    """The rows of a page, with the table's columns: what ``recent_workflows`` asks for, without the ORM's compiler.

    Not from ``fragments``, which ask where runs are written: a page may be read where nothing can be.

    Args:
        using: alias of the database to read from.
    """
    connection = connections[using]
    statement = f"""
        SELECT id, workspace_id, uid, published_run_id, last_used_at, last_run_id
        FROM {connection.ops.quote_name(WorkspaceRecentWorkflow._meta.db_table)}
        WHERE workspace_id = %s AND uid = %s
        ORDER BY last_used_at DESC, last_run_id DESC
        LIMIT %s
    """
    return statement, [storage_field(host().workspace).get_db_prep_value(workspace, connection), uid, limit]


def stale_rows(runs: Sequence[Any]) -> Statement:
    """Columns of ``projection.StaleRow``.

    The runs are named twice. Else the planner does not see that it need look at no others, and does so row by row: with
    5,000 runs it reads five times as many pages.
    """
    parts = fragments()
    named = f"ANY(%s::{parts.run_type}[])"
    statement = stale(parts, f"stored.last_run_id = {named}", among=f"live.run = {named}")
    return statement, [runs, *parts.live_params, runs]


def untrue_rows_of(scope: Scope) -> Statement:
    """``(run, shard)`` of the rows of a workspace or workflow that are not true."""
    parts, found = fragments(), host()
    column, field, kind = (
        ("workspace_id", found.workspace, parts.workspace_type)
        if scope.lookup == found.workspace.name
        else ("published_run_id", found.workflow, parts.workflow_type)
    )
    statement = f"""
        SELECT DISTINCT stored.last_run_id, {shard_sql("stored.workspace_id")}
        FROM {parts.table} AS stored
        WHERE stored.{column} = %s::{kind} AND {untrue(parts)}
    """
    return statement, [*prepared(field, [scope.key]), *parts.live_params]


def stale_in_range(workspaces: Workspaces) -> Statement:
    """Columns of ``projection.StaleRow``, for the rows of a range: all that a fill of it can have written.

    The range is named twice, for the runs are in it, too. The planner may then read them in one go; else it looks up
    each row's run by its key, which are all over the table.
    """
    parts = fragments()
    where, bounds = workspaces.where("stored.workspace_id", "stored.last_run_id")
    among, _ = workspaces.where("live.workspace", "live.run")
    return stale(parts, where, among), [*bounds, *parts.live_params, *bounds]


def rising_among(runs: Sequence[Any]) -> Statement:
    """``(run, shard)`` of those runs that are newer than a row of theirs. Each of them: see ``writes.raise_rows``."""
    parts = fragments()
    statement = f"""
        SELECT live.run, {shard_sql("live.workspace")}
        FROM {parts.live} WHERE live.run = ANY(%s::{parts.run_type}[]) AND {rises(parts.table)}
    """
    return statement, [*parts.live_params, runs]


def sweep_runs(used_at: Any, run: Any, limit: int) -> Statement:
    """The next runs in the order of (used_at, run): ``(used_at, run, late)``, the time in UTC; late where a row of
    theirs is older.

    Args:
        used_at, run: where to go on, past that run; a run of None means from that time, which has a zone.
        limit: most runs.

    Walks the run's index on the time alone; each run costs two look-ups in the table's key.
    """
    parts = fragments()
    where, after = (
        ("live.used_at >= %s", [used_at])
        if run is None
        else (f"(live.used_at, live.run) > (%s, %s::{parts.run_type})", [used_at, run])
    )
    statement = f"""
        WITH page AS MATERIALIZED (
            SELECT live.* FROM {parts.live} WHERE {where} ORDER BY live.used_at, live.run LIMIT {limit}
        )
        SELECT {in_utc("live.used_at")}, live.run, {rises(parts.table)}
        FROM page AS live ORDER BY live.used_at, live.run
    """
    return statement, [*parts.live_params, *after]


def sweep_rows(after_id: int, limit: int) -> Statement:
    """The next rows by their id: ``(id, run, untrue)``."""
    parts = fragments()
    statement = f"""
        SELECT stored.id, stored.last_run_id, {untrue(parts)}
        FROM (SELECT * FROM {parts.table} WHERE id > %s ORDER BY id LIMIT {limit}) AS stored
        ORDER BY stored.id
    """
    return statement, [*parts.live_params, after_id]


HORIZON: Final = f"""
    SELECT {in_utc("now()")},
           (SELECT {in_utc("coalesce(min(xact_start), now())")} FROM pg_stat_activity
            WHERE datname = current_database() AND backend_xid IS NOT NULL),
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           pg_current_xact_id()::text::bigint
"""
"""``(now, oldest, running, following)``: the server's time; the start of the oldest transaction that has written and is
still open, as far as this role may see others', both in UTC; and two transaction ids, which it may always see: all
before ``running`` have ended, prepared ones included, and ``following`` is one taken for this purpose, so whoever
writes for the first time after now has a later one. (A snapshot's ``xmax`` would not do: open ids may be past it.)"""


def _in_range(workspaces: Workspaces) -> Statement:
    where, bounds = workspaces.where("run.workspace")
    return f"SELECT run.workspace FROM ({workspaces_of_runs()}) AS run(workspace) WHERE {where}", bounds


def cut(workspaces: Workspaces, size: int) -> Statement:
    """``(workspace,)`` of the range's run number ``size`` in the order of workspaces; no row if it has fewer."""
    statement, params = _in_range(workspaces)
    return f"{statement} ORDER BY 1 OFFSET {size - 1} LIMIT 1", params


def count(workspaces: Workspaces) -> Statement:
    """``(runs,)`` of a range."""
    statement, params = _in_range(workspaces)
    return f"SELECT count(*) FROM ({statement}) AS run", params


def compare(workspaces: Workspaces, *, uid: str | None = None, all_rows: bool = False, since: Any = None) -> Statement:
    """Columns of ``truth.Comparison`` for each key of a range of workspaces where table and runs differ.

    Where ``BACKFILL_FILTER`` or ``since`` leaves old runs out, a row may rightly be anywhere from the newest run that
    history counts to the newest run there is.

    Args:
        uid: only this grain's keys.
        all_rows: keys that agree, too.
        since: history counts only runs used at that moment or later.
    """
    parts = fragments()
    of_live, bounds = workspaces.where("live.workspace")
    of_table, _ = workspaces.where("stored.workspace_id")
    of_uid, of_stored_uid, uids = ("", "", []) if uid is None else ("WHERE uid = %s", "AND stored.uid = %s", [uid])
    differ = "(stored.last_used_at, stored.last_run_id) IS DISTINCT FROM (truth.used_at, truth.run)"
    expected, expected_params = "", []
    if parts.history != parts.live or since is not None:
        of_history, history_params = counted_by_history(workspaces, since)
        expected = f"""
            LEFT JOIN (SELECT * FROM ({newest_per_key(parts.history, of_history)}) AS keyed {of_uid})
              AS expected(workspace, uid, workflow, used_at, run)
              ON (expected.workspace, expected.uid, expected.workflow) = (truth.workspace, truth.uid, truth.workflow)
        """
        expected_params = [*history_params, *uids]
        differ += f"""
            AND NOT CASE WHEN stored.id IS NULL THEN expected.run IS NULL
            ELSE NOT ({untrue(parts)})
             AND (expected.run IS NULL
                  OR (stored.last_used_at, stored.last_run_id) >= (expected.used_at, expected.run)) END
        """
    statement = f"""
        SELECT {shard_sql("coalesce(stored.workspace_id, truth.workspace)")},
               coalesce(stored.workspace_id, truth.workspace), coalesce(stored.uid, truth.uid),
               coalesce(stored.published_run_id, truth.workflow),
               stored.last_used_at, stored.last_run_id, truth.used_at, truth.run
        FROM (SELECT * FROM ({newest_per_key(parts.live, of_live)}) AS keyed {of_uid})
          AS truth(workspace, uid, workflow, used_at, run)
        FULL JOIN (SELECT * FROM {parts.table} AS stored WHERE {of_table} {of_stored_uid}) AS stored
          ON stored.workspace_id = truth.workspace AND stored.uid = truth.uid
         AND stored.published_run_id = truth.workflow
        {expected}
        WHERE {"true" if all_rows else differ}
        ORDER BY 2, 3, coalesce(truth.used_at, stored.last_used_at) DESC
    """
    untrue_params = parts.live_params if expected and not all_rows else ()
    return statement, [*parts.live_params, *bounds, *uids, *bounds, *uids, *expected_params, *untrue_params]
