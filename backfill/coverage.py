"""Whether a workspace's history is in the table: for pages, and for comparisons."""

from __future__ import annotations

from typing import Any

from backfill import models, progress
from backfill.models import NOT_FILLED, Backfill, Chunk
from backfill.states import BackfillStatus, Kind
from workflows_tasks import history
from workflows_tasks.history import Sql


def is_filled(workspace: Any) -> bool:
    """Whether some backfill has filled all runs of a workspace that history counts; only then is its page complete.

    One statement, which looks at chunks that are not done. A workspace counts as filled if it had no runs when a
    backfill of it was planned. Runs of the time since capture was installed are in the table in any case.

    Args:
        workspace: a workspace, or its key.

    Raises:
        InvalidArgument: the workspace is not saved, or the value is not a workspace's key.
    """
    key = history.value(history.workspace_text(workspace)) + f"::{history.fragments().workspace_type}"
    # Of the collation that the column has, by whose order the chunks were cut: a parameter has the database's.
    asked = history.compose("SELECT raw.workspace FROM {raw} WHERE false UNION ALL SELECT {key}", key=key)
    statement = history.compose(
        """SELECT EXISTS (SELECT FROM {backfill} AS backfill, ({asked}) AS asked(workspace) WHERE {covers})""",
        backfill=_table(Backfill), asked=asked, covers=_covers("asked.workspace"),
    )  # fmt: skip
    ((answer,),) = history.rows(statement)
    return bool(answer)


def unfilled_sql(workspace: str) -> Sql:
    """Condition, for ``history.register_unfilled``: a workspace's history is not filled.

    A chunk of it is open, or it is not filled and no other backfill has filled the workspace. Or the table lacks
    history, and no plan has the workspace.
    """
    lacks_history = history.lacks_history()
    if not _is_migrated():
        return Sql("true" if lacks_history else "false")
    other = f"""
        SELECT FROM {_table(Backfill)} AS backfill WHERE backfill.id <> chunk.backfill_id AND {_covers(workspace)}
    """
    by_chunk = f"""EXISTS (
        SELECT FROM {_table(Chunk)} AS chunk
        WHERE {_not_filled("chunk", workspace)} AND (chunk.is_open OR NOT EXISTS ({other}))
    )"""
    if not lacks_history:
        return Sql(by_chunk)
    return Sql(
        f"({by_chunk} OR NOT EXISTS (SELECT FROM {_table(Backfill)} AS backfill WHERE {_has_planned(workspace)}))"
    )


def advice() -> str:
    """What to do about history that is not filled, for people."""
    if not _is_migrated():
        return "run: manage.py migrate"
    newest = models.current() or models.backfills().first()
    if newest is None or newest.status in {BackfillStatus.SUCCEEDED, BackfillStatus.CANCELLED}:
        return "run: manage.py backfill start"
    return f"see backfill {newest.pk} ({newest.status}): manage.py backfill status {newest.pk}"


def trouble() -> str:
    """Why the newest backfill does not go on, or that it failed, for people; empty if neither."""
    newest = (models.current() or models.backfills().first()) if _is_migrated() else None
    if newest is None:
        return ""
    if newest.status == BackfillStatus.FAILED:
        return f"backfill {newest.pk} failed: {newest.error}; see: manage.py backfill status {newest.pk}"
    seen = progress.of(newest)
    reasons = [*seen.reasons, *(f"chunk {chunk.pk} is to be tried again: {chunk.error}" for chunk in seen.retrying)]
    return f"backfill {newest.pk} waits: {'; '.join(reasons[:3])}" if seen.waits else ""


def _covers(workspace: str) -> str:
    """Condition on ``backfill``: it has planned the workspace, and has filled it."""
    return f"""({_has_planned(workspace)}
        AND NOT EXISTS (
            SELECT FROM {_table(Chunk)} AS part
            WHERE part.backfill_id = backfill.id AND {_not_filled("part", workspace)}
        ))"""


def _has_planned(workspace: str) -> str:
    """Condition on ``backfill``: it has its plan, and its range has the workspace."""
    kind = history.fragments().workspace_type
    return f"""(backfill.planned_at IS NOT NULL
        AND (backfill.first_workspace IS NULL OR backfill.first_workspace::{kind} <= {workspace})
        AND (backfill.last_workspace IS NULL OR backfill.last_workspace::{kind} >= {workspace}))"""


def _not_filled(chunk: str, workspace: str) -> str:
    """Condition on a chunk: it has the workspace, and its runs are not all filled."""
    # Not "status <> done": an index then leads to the few that are not.
    statuses = ", ".join(f"'{status}'" for status in NOT_FILLED)
    kind = history.fragments().workspace_type
    return f"""({chunk}.kind = '{Kind.FILL}' AND {chunk}.status IN ({statuses})
        AND {workspace} BETWEEN {chunk}.first_workspace::{kind} AND {chunk}.last_workspace::{kind})"""


def _table(model: type[Backfill] | type[Chunk]) -> str:
    return history.quoted(model._meta.db_table)


def _is_migrated() -> bool:
    """Whether the tables are there. Comparisons go on between a deploy and ``migrate``."""
    ((chunk,),) = history.rows(history.compose("SELECT to_regclass({name})", name=history.value(_table(Chunk))))
    return chunk is not None
