"""The rivals' tasks and receivers, as their users would write them, and the app whose worker runs them.

::

    celery -A benchmarks.peers worker -Q peers
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db import connection, transaction

from celeryconfig import app
from workflows_tasks import conf
from workflows_tasks.capture.nudge import client

__all__ = ["app"]

QUEUE: Final = "peers"
UPSERT: Final = """
    INSERT INTO workflows_tasks_workspacerecentworkflow AS stored
        (workspace_id, uid, published_run_id, last_used_at, last_run_id)
    SELECT DISTINCT ON (run.workspace_id, grain.uid, version.published_run_id)
        run.workspace_id, grain.uid, version.published_run_id, run.updated_at, run.id
    FROM bots_savedrun AS run
    JOIN bots_publishedrunversion AS version ON version.id = run.parent_version_id
    CROSS JOIN LATERAL (VALUES (''), (run.uid)) AS grain(uid)
    WHERE run.id = ANY(%s) AND run.surface = 0 AND run.workspace_id IS NOT NULL AND grain.uid IS NOT NULL
    ORDER BY run.workspace_id, grain.uid, version.published_run_id, run.updated_at DESC, run.id DESC
    ON CONFLICT (workspace_id, uid, published_run_id) DO UPDATE
    SET last_used_at = excluded.last_used_at, last_run_id = excluded.last_run_id
    WHERE (excluded.last_used_at, excluded.last_run_id) > (stored.last_used_at, stored.last_run_id)
"""
"""Reads the runs and advances their rows of both grains: what everybody here does, one run at a time or many."""


def upsert(runs: Iterable[int]) -> None:
    """Advance the rows of these runs. Nobody looks whether the runs are still there afterwards; deletes are ignored."""
    with connection.cursor() as cursor:
        cursor.execute(UPSERT, [list(runs)])


@app.task(ignore_result=True)  # type: ignore[untyped-decorator, unused-ignore]
def note_use(run: int) -> None:
    """One task for each save."""
    upsert([run])


def upsert_on_save(*, instance: Any, **_: Any) -> None:
    """Receiver: write the rows in the save's own transaction."""
    upsert([instance.pk])


def ping_on_save(**_: Any) -> None:
    """Receiver: nothing but a round trip to Redis after the commit, by the client that the nudge has."""
    transaction.on_commit(_ping)


def _ping() -> None:
    client(conf.settings().save_timeout_s).execute_command("PING")


def delay_on_save(*, instance: Any, **_: Any) -> None:
    """Receiver: a task for each save, sent after the commit."""
    transaction.on_commit(lambda: note_use.apply_async((instance.pk,), queue=QUEUE))
