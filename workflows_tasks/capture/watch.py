"""Find what keeps writes from being captured: triggers and functions that are missing, disabled or outdated, a log that
cannot be written, and tables that were altered since capture was installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workflows_tasks.capture import catalogue, record, triggers
from workflows_tasks.capture.catalogue import Present
from workflows_tasks.capture.tables import Table, tables
from workflows_tasks.capture.triggers import COMMAND, Names
from workflows_tasks.host import host
from workflows_tasks.models import CHANGES, Installation


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps writes of a table from being captured, or a page from being read fresh."""

    table: str
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"


def problems() -> list[Problem]:
    """What the catalogue says is wrong now: one query for each table of the host's."""
    where = catalogue.names()
    if where is None:
        return [Problem(CHANGES, "the tables of this package are missing; run: manage.py migrate")]
    if catalogue.is_absent(where):
        return [Problem(CHANGES, f"capture is not installed, so nothing is logged; run: {COMMAND}")]
    wrong = list(_problems_of_log(where))
    with suppress(Installation.DoesNotExist):
        watched = record.installation().watched
        for table in tables(host()):
            wrong += [Problem(table.name, what) for what in _wrong_with(table, where, watched.get(table.name, {}))]
    return wrong


def note_watched() -> None:
    """Remember the tables as they are, so that a tick notices what no trigger sees."""
    seen_by_name = {table.name: (table, seen) for table in tables(host()) if (seen := catalogue.find(table.name))}
    watched = {
        name: {"columns": seen.of(table.columns), "partitions": seen.partitions}
        for name, (table, seen) in seen_by_name.items()
        if set(table.columns) <= set(seen.columns)  # else it is in between two states, and neither is to be expected
    }
    record.only_row().update(watched={**record.installation().watched, **watched})


def _problems_of_log(where: Names) -> Iterator[Problem]:
    is_typed = catalogue.is_log_typed(where)
    if is_typed is None:
        yield Problem(CHANGES, f"the change log is missing, so nothing is captured; run: {COMMAND}")
        return
    if not is_typed:
        undo = f"ALTER TABLE {where.log} OF {where.log_columns}"
        yield Problem(CHANGES, f"somebody may alter the change log, and your writes would fail; execute: {undo}")
    for owner in catalogue.owners_without_log(where):
        yield Problem(CHANGES, f"{owner}, who owns the triggers' functions, may not write the log; grant INSERT on it")


def _wrong_with(table: Table, where: Names, watched: dict[str, Any]) -> Iterator[str]:
    seen = catalogue.find(table.name)
    if seen is None:
        yield "is missing"
        return
    for name in (triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER):
        state = seen.triggers.get(name)
        if state is None:
            yield f"has no trigger {name}, so its writes are not captured; run: {COMMAND}"
        elif state not in "OA":
            mend = f"ALTER TABLE {seen.name} ENABLE TRIGGER {name}"
            yield f"has its trigger {name} disabled, so its writes are not captured; run this SQL: {mend}"
    if seen.bare:
        yield f"has partitions whose TRUNCATE is not captured: {', '.join(seen.bare[:5])}; run: {COMMAND}"
    yield from _outdated(table, where)
    yield from _altered(table, seen, watched)


def _outdated(table: Table, where: Names) -> Iterator[str]:
    """At most one sentence about a table's functions."""
    for name, body in catalogue.functions(table, where).items():
        present = catalogue.body(name)
        if present == triggers.OFF:
            yield f"is not captured: triggers are turned off; run: {COMMAND}"
        elif present != body:
            yield f"has {'an outdated' if present else 'no'} function {name}; run: {COMMAND}"
        if present != body:
            return


def _altered(table: Table, seen: Present, watched: dict[str, Any]) -> Iterator[str]:
    """What differs from the table that triggers were installed on."""
    gone = [column for column in table.columns if column not in seen.columns]
    if gone:
        yield f"has no column {', '.join(gone)}: changes name runs without their workspace; run migrate, or {COMMAND}"
    elif watched and watched.get("columns") != seen.of(table.columns):
        yield f"has other columns, or of another type, than when triggers were installed; run: {COMMAND}"
    if watched and watched.get("partitions") != seen.partitions:
        yield f"has other partitions than when triggers were installed; their runs may differ; run: {COMMAND}"
