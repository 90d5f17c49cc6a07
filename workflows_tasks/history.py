"""The facade for whoever fills history: the app ``backfill``, and a host's own scripts.

A fill advances rows from the runs that were there before the triggers. It takes no lock, so a run may be deleted
between its snapshot and its commit. A later transaction must therefore look over the range (``recheck_filled``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from workflows_tasks import keys as keys_of_host
from workflows_tasks.capture import watch
from workflows_tasks.capture.record import lacks_history, note_filled
from workflows_tasks.comparison.compare import (
    DRIFT,
    Difference,
    compare,
    register_unfilled,
    snapshot,
)
from workflows_tasks.comparison.verify import Part, estimated_runs, parts, repair, repair_now, runs_of
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import Host, host
from workflows_tasks.keys import column_type, text_of
from workflows_tasks.monitoring.spans import span
from workflows_tasks.monitoring.telemetry import brief, printable, say
from workflows_tasks.projection import changes, writer
from workflows_tasks.projection.backlog import oldest_change_s
from workflows_tasks.projection.fragments import compose, fragments, not_true
from workflows_tasks.projection.ranges import EVERYWHERE, Range
from workflows_tasks.projection.transactions import (
    STATEMENT_TIMEOUT,
    is_refusal,
    limits,
    read_committed,
    sqlstate,
)
from workflows_tasks.sql import Sql, execute, join, keys, quoted, rows, value

__all__ = [
    "DRIFT", "EVERYWHERE", "STATEMENT_TIMEOUT", "Difference", "Host", "Part", "Range", "Sql", "brief",
    "capture_problems", "column_type", "compare", "compose", "database", "estimated_runs", "execute", "fill",
    "fragments", "host", "is_refusal", "join", "keys", "lacks_history", "limits", "not_true", "note_filled",
    "oldest_change_s", "parse_range", "parts", "printable", "quoted", "read_committed", "recheck_filled",
    "register_unfilled", "repair", "repair_now", "rows", "runs_of", "say", "snapshot", "span", "sqlstate", "text_of",
    "value", "workspace_text",
]  # fmt: skip


def database() -> str:
    """Alias of the database of runs and table."""
    return host().database


def capture_problems() -> list[str]:
    """Reasons why some writes are not captured now, each with the command that mends it; empty if all are captured.

    Fill nothing meanwhile: rows that somebody's writes concern would be wrong, and nobody would know.
    """
    return [str(problem) for problem in watch.problems()]


def fill(
    among: Range,
    *,
    limits: Mapping[str, str] | None = None,
    before_commit: Callable[[int], None] | None = None,
) -> int:
    """Advance the rows of all runs of a range that history counts, in a transaction of its own; returns rows written.

    Args:
        limits: settings of the transaction, as ``limits()`` returns them.
        before_commit: called with the number of rows written, inside the transaction. Its own writes commit together
            with the rows. If it raises, nothing commits.
    """
    with read_committed(limits or {}):
        written = writer.fill(among)
        if before_commit is not None:
            before_commit(written)
    return written


def recheck_filled(among: Range) -> int:
    """Log the runs of those rows of a range that are not true any more, in the caller's transaction; returns how many.

    All rows of the range are looked over, because a fill that was killed after its commit left rows, too.
    """
    # The range is named for the runs too, so that the planner may read them in one go.
    where = not_true(among.where("live.workspace", "live.run"))
    return changes.log_selected(
        compose(
            "SELECT stored.workspace_id, stored.last_run_id FROM {table} AS stored WHERE {range} AND {not_true}",
            range=among.where("stored.workspace_id", "stored.last_run_id"),
            not_true=where,
        )
    )


def workspace_text(workspace: Any) -> str:
    """A workspace's key as text, as PostgreSQL prints it.

    Args:
        workspace: a workspace, or its key.

    Raises:
        InvalidArgument: the workspace is not saved, or the value is not a workspace's key.
    """
    field = host().workspace
    key = keys_of_host.given(field, workspace, "workspace")
    if key is None:
        raise InvalidArgument("workspace is None or was never saved; pass a saved workspace or its key.")
    text = keys_of_host.printed(field, key)
    if text is not None:
        return text
    ((text,),) = rows(compose("SELECT {text}", text=Sql(text_of(f"%s::{column_type(field)}"), (key,))))
    return str(text)


def parse_range(text: str | None) -> Range:
    """The range that ``A..B`` names, or ``A-B``, where either end may be left out; or one key's.

    Raises:
        InvalidArgument: the text is neither, or it could be read in several ways, as keys may have dashes.
    """
    if text is None:
        return EVERYWHERE
    sign = ".." if ".." in text else "-"
    readings = [each for at in range(len(text)) if text.startswith(sign, at) for each in _ends(text, at, sign)]
    if sign == "-" and text and text == text.strip(sign):
        readings += _ends(f"{text}..{text}", len(text), "..")
    if len(readings) > 1:
        raise InvalidArgument(
            f"{text!r} could be a range or a key, for keys may have dashes; write A..B, or A..A for one workspace."
        )
    if not readings:
        raise InvalidArgument(
            f"{text!r} is no range of workspaces; write A..B, with the keys of the first and the last, or one key."
        )
    return readings[0]


def _ends(text: str, at: int, sign: str) -> list[Range]:
    ends = text[:at], text[at + len(sign) :]
    with suppress(InvalidArgument):
        first, last = (workspace_text(end) if end else None for end in ends)
        return [replace(EVERYWHERE, first=first, last=last)]
    return []
