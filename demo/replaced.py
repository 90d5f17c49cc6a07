"""What the home page asked before: the workflows used last, derived from the whole run history on each page load."""

from __future__ import annotations

from typing import Any

from django.db import connection


def query(workspace: int, user: str | None = None, limit: int = 4) -> tuple[str, dict[str, Any]]:
    """The old query and its parameters."""
    of_user = "AND run.uid = %(user)s" if user else ""
    statement = f"""
    SELECT run, workflow, used_at FROM (
        SELECT DISTINCT ON (version.published_run_id)
            run.id AS run, version.published_run_id AS workflow, run.updated_at AS used_at
        FROM bots_savedrun AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        WHERE run.workspace_id = %(workspace)s AND run.surface = 0 {of_user}
        ORDER BY version.published_run_id, run.updated_at DESC, run.id DESC
    ) AS newest
    ORDER BY used_at DESC, run DESC LIMIT %(limit)s
    """
    return statement, {"workspace": workspace, "user": user, "limit": limit}


def recent_workflows(workspace: int, user: str | None = None, limit: int = 4) -> list[tuple[Any, ...]]:
    """The workflows used last, newest first: run, workflow and when it was used."""
    with connection.cursor() as cursor:
        cursor.execute(*query(workspace, user, limit))
        return list(cursor.fetchall())
