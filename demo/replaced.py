"""What the home page asked before: the workflows used last, derived from the whole run history on each page load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

_NEWEST_RUN_OF_EACH_WORKFLOW = """
    SELECT run, workflow, used_at FROM (
        SELECT DISTINCT ON (version.published_run_id)
            run.id AS run, version.published_run_id AS workflow, run.updated_at AS used_at
        FROM bots_savedrun AS run JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
        WHERE run.workspace_id = %(workspace)s AND run.surface = 0 {of_user}
        ORDER BY version.published_run_id, run.updated_at DESC, run.id DESC
    ) AS newest
    ORDER BY used_at DESC, run DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Use:
    """A workflow's latest run, as the old query finds it."""

    run: int
    workflow: int
    used_at: datetime


def recent_workflows(workspace: int, user: str | None = None, limit: int = 4) -> list[Use]:
    """The workflows used last, newest first."""
    statement = _NEWEST_RUN_OF_EACH_WORKFLOW.format(of_user="AND run.uid = %(user)s" if user else "")
    with connection.cursor() as cursor:
        cursor.execute(statement, {"workspace": workspace, "user": user, "limit": limit})
        return [Use(*row) for row in cursor.fetchall()]
