"""Statements of the backfill that are not those of ``workflows_tasks``: counting, and finding positions.

As there, each is a function that returns ``(statement, parameters)``, and none executes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflows_tasks.host import host
from workflows_tasks.sql.fragments import Statement, Workspaces, counted_by_history, fragments, prepared

HEAVIEST = 10
"""Workspaces that a plan names."""


def weigh(workspaces: Workspaces, step: int, since: Any = None) -> Statement:
    """One pass over the runs that history counts. Rows of ``(part, first, last, runs, workspaces, magnitude)``:

    ``step``       workspaces next to each other that have about ``step`` runs together; one alone if it has more
    ``heaviest``   one of the workspaces with most runs
    ``magnitude``  all workspaces with 10^magnitude runs or more, and fewer than ten times as many

    Only workspaces, never their runs, are gathered in the database; and what is returned does not grow with them. A
    workspace is put to those before it by the number of runs before it: a sum, since a greedy packing needs a loop.
    """
    parts = fragments()
    where, params = counted_by_history(workspaces, since)
    kind = parts.workspace_type
    statement = f"""
        WITH weights AS MATERIALIZED (
            SELECT live.workspace, count(*) AS runs FROM {parts.history} WHERE {where} GROUP BY live.workspace
        ), placed AS (
            SELECT workspace, runs, sum(runs) OVER (ORDER BY workspace) - runs AS before FROM weights
        ), steps AS (
            SELECT array_agg(workspace ORDER BY workspace) AS workspaces, sum(runs) AS runs
            FROM placed
            GROUP BY CASE WHEN runs > {step} THEN workspace END, div(before, {max(step // 2, 1)})
        )
        SELECT 'step', workspaces[1], workspaces[cardinality(workspaces)], runs::bigint, cardinality(workspaces), 0
        FROM steps
        UNION ALL
        (SELECT 'heaviest', workspace, workspace, runs, 1, 0
         FROM weights ORDER BY runs DESC, workspace LIMIT {HEAVIEST})
        UNION ALL
        SELECT 'magnitude', null::{kind}, null::{kind}, sum(runs)::bigint, count(*)::int, floor(log(runs))::int
        FROM weights GROUP BY 6
        ORDER BY 1, 2, 6
    """
    return statement, params


def quantiles(heavy: Sequence[Any], step: int, since: Any = None) -> Statement:
    """``(workspace, run)`` of every ``step``th run of heavy workspaces, in the order of their keys."""
    parts = fragments()
    where, params = counted_by_history(Workspaces(), since)
    statement = f"""
        SELECT workspace, run FROM (
            SELECT live.workspace, live.run,
                   row_number() OVER (PARTITION BY live.workspace ORDER BY live.run) AS position
            FROM {parts.history} WHERE {where} AND live.workspace = ANY(%s::{parts.workspace_type}[])
        ) AS numbered
        WHERE mod(position, {step}) = 0 ORDER BY workspace, run
    """
    return statement, [*params, prepared(host().workspace, heavy)]


def run_at(workspaces: Workspaces, position: int, since: Any = None) -> Statement:
    """``(workspace, run)`` of a range's run number ``position``, and of the one after it."""
    where, params = counted_by_history(workspaces, since)
    statement = f"""
        SELECT live.workspace, live.run FROM {fragments().history} WHERE {where}
        ORDER BY live.workspace, live.run OFFSET {position - 1} LIMIT 2
    """
    return statement, params


def runs_in(workspaces: Workspaces, limit: int, since: Any = None) -> Statement:
    """``(run,)`` of the first runs of a range."""
    where, params = counted_by_history(workspaces, since)
    ordered = f"{where} ORDER BY live.workspace, live.run LIMIT {limit}"
    return f"SELECT live.run FROM {fragments().history} WHERE {ordered}", params
