"""Whether a workspace's history is in the table: for a page that would otherwise fall back, and for comparisons."""

from __future__ import annotations

from typing import Any, NamedTuple

from backfill.models import NOT_FILLED, Backfill, Chunk
from backfill.states import Kind
from workflows_tasks import history
from workflows_tasks.history import Sql


class Coverage(NamedTuple):
    """What backfills have done for one workspace. Live runs are in the table whatever this says."""

    is_filled: bool
    """All of its runs that history counts were filled by some backfill. Only then is its page complete."""

    is_verified: bool
    """That backfill compared it afterwards, and found no drift."""


def coverage(workspace: Any) -> Coverage:
    """Ask whether a workspace's history is in; one statement that looks at chunks which are not done.

    A workspace that had no runs when a backfill of it was planned counts as filled. Backfills with ``since`` are not
    asked: they leave history out.

    Args:
        workspace: a workspace, or its key.

    Raises:
        InvalidArgument: an unsaved workspace, or no workspace's key.
    """
    key = history.value(history.workspace_text(workspace)) + f"::{history.fragments().workspace_type}"
    # Of the collation that the column has, by whose order the chunks were cut: a parameter has the database's.
    asked = history.compose("SELECT raw.workspace FROM {raw} WHERE false UNION ALL SELECT {key}", key=key)
    statement = history.compose(
        """
        SELECT {filled}, {verified} FROM {backfill} AS backfill, ({asked}) AS asked(workspace)
        WHERE backfill.since IS NULL AND {planned}
        """,
        filled=_is_done(Kind.FILL, "asked.workspace"), verified=_is_done(Kind.VERIFY, "asked.workspace"),
        backfill=_table(Backfill), asked=asked, planned=_planned("asked.workspace"),
    )  # fmt: skip
    answers = history.rows(statement)
    return Coverage(any(filled for filled, _ in answers), any(filled and verified for filled, verified in answers))


def open_sql(workspace: str) -> Sql:
    """Condition: a chunk explains that table and runs differ in a workspace. ``history.open_chunks`` takes it.

    The chunk is open: what it wrote may not be true until it is looked over. Or its runs are not filled, by whichever
    backfill, and no other backfill of as much history is done there.

    Args:
        workspace: SQL for the workspace's key.
    """
    if not _is_migrated():
        return Sql("false")
    done = f"""
        SELECT FROM {_table(Backfill)} AS backfill
        WHERE backfill.id <> chunk.backfill_id AND {_planned(workspace)} AND {_is_done(Kind.FILL, workspace)}
          AND (backfill.since IS NULL OR backfill.since <= wanted.since)
    """
    return Sql(f"""EXISTS (
        SELECT FROM {_table(Chunk)} AS chunk JOIN {_table(Backfill)} AS wanted ON wanted.id = chunk.backfill_id
        WHERE chunk.kind = '{Kind.FILL}' AND {_not_done("chunk")} AND {_within("chunk", workspace)}
          AND (chunk.is_open OR NOT EXISTS ({done}))
    )""")


def _is_done(kind: str, workspace: str) -> str:
    """Condition on ``backfill``: it has no chunk left in that workspace."""
    return f"""NOT EXISTS (
        SELECT FROM {_table(Chunk)} AS part
        WHERE part.backfill_id = backfill.id AND part.kind = '{kind}' AND {_not_done("part")}
          AND {_within("part", workspace)}
    )"""


def _not_done(chunk: str) -> str:
    # Not "status <> done": an index then leads to the few that are not.
    statuses = ", ".join(f"'{status}'" for status in NOT_FILLED)
    return f"{chunk}.status IN ({statuses})"


def _within(chunk: str, workspace: str) -> str:
    kind = history.fragments().workspace_type
    return f"{workspace} BETWEEN {chunk}.first_workspace::{kind} AND {chunk}.last_workspace::{kind}"


def _planned(workspace: str) -> str:
    """Condition on ``backfill``: it has its plan, and its range has the workspace."""
    kind = history.fragments().workspace_type
    return f"""(backfill.planned_at IS NOT NULL
          AND (backfill.first_workspace IS NULL OR backfill.first_workspace::{kind} <= {workspace})
          AND (backfill.last_workspace IS NULL OR backfill.last_workspace::{kind} >= {workspace}))"""


def _table(model: type[Backfill] | type[Chunk]) -> str:
    return history.quoted(model._meta.db_table)


def _is_migrated() -> bool:
    """The tables are there: they are made some time after the code is deployed, and live comparisons go on."""
    ((chunk,),) = history.rows(history.compose("SELECT to_regclass({name})", name=history.value(_table(Chunk))))
    return chunk is not None
