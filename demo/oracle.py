"""The truth, by a query that shares nothing with the code under demonstration.

It aggregates the platform's whole history in plain SQL and compares the result with the table, both ways and counting
duplicates (``EXCEPT ALL``). It may be slow; it may not be clever.
"""

from __future__ import annotations

from typing import Any

from django.db import connection


def expected_rows() -> int:
    """How many rows the table should have."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_TRUTH}) AS truth")
        return int(cursor.fetchone()[0])


def differences(at_most: int = 20) -> list[tuple[Any, ...]]:
    """Rows that only ``history`` or only the ``table`` has, as the first column says; none if the table is exact."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, [at_most])
        return list(cursor.fetchall())


# Each run counts twice: for its workspace (an empty uid), and for its user if it has one.
_TRUTH = """
    SELECT DISTINCT ON (workspace_id, uid, published_run_id) workspace_id, uid, published_run_id, updated_at, id
    FROM (
        SELECT run.workspace_id, grain.uid, version.published_run_id, run.updated_at, run.id
        FROM bots_savedrun AS run
        JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        CROSS JOIN LATERAL (VALUES (''), (nullif(run.uid, ''))) AS grain(uid)
        WHERE run.surface = 0 AND run.workspace_id IS NOT NULL AND grain.uid IS NOT NULL
    ) AS uses
    ORDER BY workspace_id, uid, published_run_id, updated_at DESC, id DESC
"""

_DIFFERENCES = f"""
    WITH truth AS MATERIALIZED ({_TRUTH}), stored AS MATERIALIZED (
        SELECT workspace_id, uid, published_run_id, last_used_at, last_run_id
        FROM workflows_tasks_workspacerecentworkflow
    )
    SELECT * FROM (
        SELECT 'history', missing.* FROM (TABLE truth EXCEPT ALL TABLE stored) AS missing
        UNION ALL
        SELECT 'table', extra.* FROM (TABLE stored EXCEPT ALL TABLE truth) AS extra
    ) AS differing
    LIMIT %s
"""
