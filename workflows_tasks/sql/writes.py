"""Statements of ``projection``: the only ones that write the table, and the search that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q

from workflows_tasks.host import host
from workflows_tasks.ids import Scope
from workflows_tasks.sql.fragments import (
    Statement,
    Workspaces,
    columns,
    counted_by_history,
    fragments,
    in_utc,
    live_runs,
    newest_per_key,
    rising,
    shard_sql,
    upsert,
    workspaces_of_runs,
)  # fmt: skip


def raise_rows(shard: int, runs: Sequence[Any]) -> Statement:
    """Rows ``(null, null, rows written)`` once, and ``(run, shard, 0)`` for each run of another shard.

    Each of those is handed on, whether or not it is newer than its row, and whether or not it is the newest of its
    key: the row may be about to be lowered under the other shard's lock, and the newest may be gone before its turn.
    """
    parts = fragments()
    ours = newest_per_key("announced AS live", "live.shard = %s")
    statement = f"""
        WITH announced AS MATERIALIZED (
            SELECT live.*, {shard_sql("live.workspace")} AS shard
            FROM {parts.live} WHERE live.run = ANY(%s::{parts.run_type}[])
        ), raised AS ({upsert(parts.table, f"({rising(parts.table, f'({ours})')})")})
        SELECT null AS run, null AS shard, (SELECT count(*) FROM raised)
        UNION ALL
        SELECT DISTINCT run, shard, 0 FROM announced WHERE shard <> %s
    """
    return statement, [*parts.live_params, runs, shard, shard]


def raise_scope(shard: int, scope: Scope) -> Statement:
    """``(run,)`` for each row of the shard that was raised to one of the runs that a lookup reaches."""
    parts, found = fragments(), host()
    live, params = live_runs(found, found.database, Q((scope.lookup, scope.key)))
    ours = newest_per_key(live, f"{shard_sql('live.workspace')} = %s")
    return upsert(parts.table, f"({rising(parts.table, f'({ours})')})"), [*params, shard]


Key = tuple[Any, str, Any]
"""(workspace, uid, workflow)."""


def heavy_workspaces(workspaces: Sequence[Any], limit: int) -> Statement:
    """``(position in workspaces,)`` of those with more than ``limit`` runs; reads no more than that of each."""
    parts, runs = fragments(), workspaces_of_runs()
    statement = f"""
        SELECT asked.position - 1
        FROM unnest(%s::{parts.workspace_type}[]) WITH ORDINALITY AS asked(workspace, position)
        WHERE (
            SELECT count(*) FROM (
                SELECT FROM ({runs}) AS run(workspace) WHERE run.workspace = asked.workspace LIMIT {limit + 1}
            ) AS counted
        ) > {limit}
    """
    return statement, [list(workspaces)]


def newest_in_light(keys: Sequence[Key]) -> Statement:
    """``(position in keys, used_at, run)`` of the newest run of each key that has one.

    For workspaces of few runs: all of each are read once, also those that have come since they were counted.
    """
    parts = fragments()
    of_user = f"live.\"user\" = NULLIF(wanted.uid, '')::{parts.user_type}"

    def walk(of_grain: str) -> str:
        return f"""(
            SELECT live.workflow, live.used_at, live.run FROM {parts.live}
            WHERE live.workspace = wanted.workspace AND {of_grain}
            OFFSET 0
        )"""

    statement = f"""
        WITH keys AS (
            SELECT * FROM unnest(%s::{parts.workspace_type}[], %s::text[], %s::{parts.workflow_type}[])
            WITH ORDINALITY AS keys(workspace, uid, workflow, position)
        )
        SELECT DISTINCT ON (keys.position) keys.position - 1, {in_utc("seen.used_at")}, seen.run
        FROM (SELECT DISTINCT workspace, uid FROM keys) AS wanted
        CROSS JOIN LATERAL (
            {walk("wanted.uid = ''")} UNION ALL {walk(f"wanted.uid <> '' AND {of_user}")}
        ) AS seen
        JOIN keys ON (keys.workspace, keys.uid, keys.workflow) = (wanted.workspace, wanted.uid, seen.workflow)
        ORDER BY keys.position, seen.used_at DESC, seen.run DESC
    """
    return statement, [*columns(keys), *parts.live_params, *parts.live_params]


def newest_in_heavy(keys: Sequence[Key], page: int | None) -> Statement:
    """The same, for a few keys of workspaces of any size.

    Each key is a branch of its own with its values as constants, since only then does the planner know that this
    workspace is a heavy one and walk down the index on (workspace, used_at) instead of sorting all of its runs.

    Args:
        page: look only at this many of the newest runs; None looks at all, by workflow.
    """
    parts = fragments()
    branches, params = [], []
    for position, (workspace, uid, workflow) in enumerate(keys):
        where, values = [f"live.workspace = %s::{parts.workspace_type}"], [workspace]
        if uid:
            where, values = [*where, f'live."user" = %s::{parts.user_type}'], [*values, uid]
        if page is None:
            where, values = [*where, f"live.workflow = %s::{parts.workflow_type}"], [*values, workflow]
        branches.append(f"""(
            SELECT {position} AS position, {in_utc("seen.used_at")}, seen.run FROM (
                SELECT live.workflow, live.used_at, live.run FROM {parts.live}
                WHERE {" AND ".join(where)}
                ORDER BY live.used_at DESC, live.run DESC LIMIT {page or 1}
            ) AS seen
            WHERE seen.workflow = %s::{parts.workflow_type} ORDER BY seen.used_at DESC, seen.run DESC LIMIT 1
        )""")
        params += [*parts.live_params, *values, workflow]
    return " UNION ALL ".join(branches), params


def lower_rows(found: Sequence[tuple[Any, ...]]) -> Statement:
    """One row: ``(lowered, removed)``. Locks in key order, and only rows that still are as they were read.

    Args:
        found: (workspace, uid, workflow, used_at as read, run as read, new used_at, new run).
    """
    parts = fragments()
    key = [f"{parts.workspace_type}[]", "text[]", f"{parts.workflow_type}[]"]
    use = ["timestamp[]", f"{parts.run_type}[]"]
    statement = f"""
        WITH found AS (
            SELECT workspace, uid, workflow, was_used_at AT TIME ZONE 'UTC' AS was_used_at, was_run,
                   used_at AT TIME ZONE 'UTC' AS used_at, run
            FROM unnest({", ".join(f"%s::{kind}" for kind in (*key, *use, *use))})
            AS found(workspace, uid, workflow, was_used_at, was_run, used_at, run)
        ), unchanged AS MATERIALIZED (
            SELECT stored.id, found.used_at, found.run
            FROM {parts.table} AS stored
            JOIN found ON (stored.workspace_id, stored.uid, stored.published_run_id)
                        = (found.workspace, found.uid, found.workflow)
            WHERE (stored.last_used_at, stored.last_run_id) = (found.was_used_at, found.was_run)
            ORDER BY stored.workspace_id, stored.uid, stored.published_run_id
            FOR UPDATE OF stored
        ), lowered AS (
            UPDATE {parts.table} AS stored SET last_used_at = unchanged.used_at, last_run_id = unchanged.run
            FROM unchanged WHERE stored.id = unchanged.id AND unchanged.run IS NOT NULL RETURNING 1
        ), removed AS (
            DELETE FROM {parts.table} AS stored
            USING unchanged WHERE stored.id = unchanged.id AND unchanged.run IS NULL RETURNING 1
        )
        SELECT (SELECT count(*) FROM lowered), (SELECT count(*) FROM removed)
    """
    return statement, columns(found)


def fill(workspaces: Workspaces, since: Any = None) -> Statement:
    """One row, one column: how many rows were written.

    Args:
        since: only runs used at that moment or later.
    """
    parts = fragments()
    where, params = counted_by_history(workspaces, since)
    # Only the range's own rows: while the table fills up nothing is known of it, and the planner would read all of it.
    of_table, bounds = workspaces.where("stored.workspace_id")
    present = f"(SELECT * FROM {parts.table} AS stored WHERE {of_table})"
    source = rising(present, f"({newest_per_key(parts.history, where)})")
    statement = f"WITH filled AS ({upsert(parts.table, f'({source})')}) SELECT count(*) FROM filled"
    return statement, [*params, *bounds]
