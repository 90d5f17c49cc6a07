"""Other ways to read a home page, in SQL as their users would write it, with the structures that they need."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.stage import execute

# What the platform runs today: the newest runs of a workspace, and of those the newest of each workflow.
NEWEST_200: Final = """
    SELECT run, workflow, used_at FROM (
        SELECT DISTINCT ON (version.published_run_id)
            run.id AS run, version.published_run_id AS workflow, run.updated_at AS used_at
        FROM (
            SELECT id, parent_version_id, updated_at FROM bots_savedrun
            WHERE workspace_id = %s AND surface = 0 ORDER BY updated_at DESC LIMIT 200
        ) AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        ORDER BY version.published_run_id, run.updated_at DESC, run.id DESC
    ) AS newest
    ORDER BY used_at DESC, run DESC LIMIT %s
"""

# The honest rival: a jump from workflow to workflow down an index. It needs the workflow in a column of the run, kept
# by every save, and an index for each grain. Here the columns that it reads are in a table of their own, so that its
# reads cost the same without rewriting the history.
_LOOSE: Final = """
    CREATE UNLOGGED TABLE loose_run AS
    SELECT run.id, run.workspace_id, run.uid, version.published_run_id, run.updated_at
    FROM bots_savedrun AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
    WHERE run.surface = 0 AND run.workspace_id IS NOT NULL
"""
_LOOSE_INDEXES: Final = (
    "CREATE INDEX loose_run_workspace ON loose_run (workspace_id, published_run_id, updated_at DESC, id DESC)",
    "CREATE INDEX loose_run_user ON loose_run (workspace_id, uid, published_run_id, updated_at DESC, id DESC)",
)
LOOSE_SCAN: Final = """
    WITH RECURSIVE newest AS (
        (
            SELECT published_run_id, updated_at, id FROM loose_run WHERE workspace_id = %(workspace)s
            ORDER BY published_run_id, updated_at DESC, id DESC LIMIT 1
        )
        UNION ALL
        SELECT following.* FROM newest CROSS JOIN LATERAL (
            SELECT published_run_id, updated_at, id FROM loose_run
            WHERE workspace_id = %(workspace)s AND published_run_id > newest.published_run_id
            ORDER BY published_run_id, updated_at DESC, id DESC LIMIT 1
        ) AS following
    )
    SELECT id, published_run_id, updated_at FROM newest ORDER BY updated_at DESC, id DESC LIMIT %(limit)s
"""

_VIEW: Final = """
    CREATE MATERIALIZED VIEW recent_view AS
    SELECT DISTINCT ON (workspace_id, uid, published_run_id) workspace_id, uid, published_run_id, updated_at, id
    FROM (
        SELECT run.workspace_id, grain.uid, version.published_run_id, run.updated_at, run.id
        FROM bots_savedrun AS run
        JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        CROSS JOIN LATERAL (VALUES (''), (run.uid)) AS grain(uid)
        WHERE run.surface = 0 AND run.workspace_id IS NOT NULL AND grain.uid IS NOT NULL
    ) AS uses
    ORDER BY workspace_id, uid, published_run_id, updated_at DESC, id DESC
"""
_VIEW_INDEXES: Final = (
    "CREATE UNIQUE INDEX recent_view_key ON recent_view (workspace_id, uid, published_run_id)",
    (
        "CREATE INDEX recent_view_read ON recent_view (workspace_id, uid, updated_at DESC, id DESC) "
        "INCLUDE (published_run_id)"
    ),
)
VIEW_READ: Final = """
    SELECT id, published_run_id, updated_at FROM recent_view
    WHERE workspace_id = %s AND uid = '' ORDER BY updated_at DESC, id DESC LIMIT %s
"""
REFRESH: Final = "REFRESH MATERIALIZED VIEW CONCURRENTLY recent_view"

SIZES: Final = {
    # Eight bytes of the column for each run that has a workflow, and the two indexes.
    "loose index scan": """
        SELECT pg_relation_size('loose_run_workspace') + pg_relation_size('loose_run_user')
             + (SELECT 8 * count(*) FROM bots_savedrun WHERE parent_version_id IS NOT NULL)
    """,
    "materialized view": "SELECT pg_total_relation_size('recent_view')",
}

# In which workspaces the newest 200 runs tell other workflows, or another order, than all of them.
WRONG: Final = """
    WITH sample AS (
        SELECT workspace_id, count(*) AS runs FROM loose_run
        WHERE workspace_id IN (
            SELECT workspace_id FROM (SELECT DISTINCT workspace_id FROM loose_run) AS every
            ORDER BY hashint8(workspace_id) LIMIT %(sample)s
        ) OR workspace_id IN (5, 232791, 3206451, 3764345, 3466675)
        GROUP BY workspace_id
    ), judged AS (
        SELECT sample.runs, truth.workflows IS DISTINCT FROM shown.workflows AS wrong
        FROM sample CROSS JOIN LATERAL (
            SELECT array_agg(published_run_id ORDER BY last_used_at DESC, last_run_id DESC) AS workflows
            FROM (
                SELECT * FROM workflows_tasks_workspacerecentworkflow
                WHERE workspace_id = sample.workspace_id AND uid = ''
                ORDER BY last_used_at DESC, last_run_id DESC LIMIT %(limit)s
            ) AS newest
        ) AS truth CROSS JOIN LATERAL (
            SELECT array_agg(published_run_id ORDER BY used_at DESC, run DESC) AS workflows
            FROM (
                SELECT published_run_id, used_at, run FROM (
                    SELECT DISTINCT ON (version.published_run_id) version.published_run_id,
                        run.updated_at AS used_at, run.id AS run
                    FROM (
                        SELECT id, parent_version_id, updated_at FROM bots_savedrun
                        WHERE workspace_id = sample.workspace_id AND surface = 0 ORDER BY updated_at DESC LIMIT 200
                    ) AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
                    ORDER BY version.published_run_id, run.updated_at DESC, run.id DESC
                ) AS of_newest
                ORDER BY used_at DESC, run DESC LIMIT %(limit)s
            ) AS page
        ) AS shown
    )
    SELECT avg(wrong::int), sum(runs * wrong::int) / sum(runs), count(*) FROM judged
"""


def build_for_reads() -> dict[str, float]:
    """Make what the loose index scan and the materialized view read; seconds that each took."""
    built_s = {}
    for name, statements in {
        "loose index scan": [_LOOSE, *_LOOSE_INDEXES],
        "materialized view": [_VIEW, *_VIEW_INDEXES],
    }.items():
        started = time.monotonic()
        for statement in statements:
            execute(statement)
        built_s[name] = time.monotonic() - started
    return built_s


def refreshed_s() -> float:
    """Seconds that a materialized view needs each time it is to be up to date; here nothing has changed."""
    started = time.monotonic()
    execute(REFRESH)
    return time.monotonic() - started


def drop_for_reads() -> None:
    execute("DROP TABLE loose_run")
    execute("DROP MATERIALIZED VIEW recent_view")
