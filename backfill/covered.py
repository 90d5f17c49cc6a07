"""Whether a workspace's history is in the table yet, for a home page that would otherwise fall back or wait."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connections

from backfill.models import Chunk, Run
from backfill.states import ChunkStatus, Kind
from workflows_tasks import reads, truth
from workflows_tasks.host import host
from workflows_tasks.sql.fragments import Statement, fragments, prepared


class Coverage(NamedTuple):
    """What backfills have done for one workspace. Live runs are in the table whatever this says."""

    is_filled: bool
    """All of its runs that history counts were filled by some backfill. Only then is its home page complete."""

    is_verified: bool
    """That backfill compared it afterwards, without a difference."""


def coverage(workspace: Any) -> Coverage:
    """Ask whether a workspace's history is in; one statement that looks at chunks which are not done.

    A workspace that had no runs when a backfill of it was planned counts as filled. Backfills with ``since`` are not
    asked: they leave history out.

    Args:
        workspace: a workspace, or its key.

    Raises:
        InvalidArgument: an unsaved workspace, or no workspace's key.
    """
    key, _ = reads.key_of(workspace)
    found = truth.rows(_statement(key))
    return Coverage(any(filled for filled, _ in found), any(filled and verified for filled, verified in found))


def _statement(key: Any) -> Statement:
    """``(filled, verified)`` for each planned run whose range has the workspace."""
    kind, quote = fragments().workspace_type, connections[host().database].ops.quote_name
    run, chunk = quote(Run._meta.db_table), quote(Chunk._meta.db_table)
    (value,) = prepared(host().workspace, [key])

    def is_done(of_kind: str) -> str:
        # Not "status <> done": a run that is over then costs one look into the index.
        return f"""NOT EXISTS (
            SELECT FROM {chunk} AS chunk
            WHERE chunk.run_id = run.id AND chunk.kind = '{of_kind}'
              AND chunk.status IN ('{ChunkStatus.PENDING}', '{ChunkStatus.RUNNING}', '{ChunkStatus.FAILED}')
              AND %s::{kind} BETWEEN chunk.first_workspace::{kind} AND chunk.last_workspace::{kind}
        )"""

    statement = f"""
        SELECT {is_done(Kind.FILL)}, {is_done(Kind.VERIFY)}
        FROM {run} AS run
        WHERE run.planned_at IS NOT NULL AND run.since IS NULL
          AND (run.first_workspace IS NULL OR run.first_workspace::{kind} <= %s::{kind})
          AND (run.last_workspace IS NULL OR run.last_workspace::{kind} >= %s::{kind})
    """
    return statement, [value] * 4
