"""Compare a range of workspaces a part at a time, and put right what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil
from typing import Final, NamedTuple

from django.db import DatabaseError

from workflows_tasks import conf
from workflows_tasks.comparison.compare import DRIFT, REFUSED, Difference, compare
from workflows_tasks.host import host
from workflows_tasks.keys import text_of
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import changes, flush, slices
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.ranges import EVERYWHERE, Range
from workflows_tasks.sql import Sql, quoted, rows, value

MOST_RUNS: Final = 2_000_000
"""Runs that one statement compares; a workspace with more is compared in parts, by its workflows."""


class Part(NamedTuple):
    """One part of a range, compared."""

    last: str | None
    """Its last workspace; None where nothing comes after it."""
    runs: int
    differences: list[Difference]
    error: str
    """Why it could not be compared; empty if it was."""


def parts(among: Range, begin: Callable[[str, str | None], None] = lambda *_: None) -> Iterator[Part]:
    """Compare a range of workspaces, ``AUDIT_CHUNK`` runs at a time; a part that fails is noted and passed over.

    Args:
        begin: called before each part is compared, with its name and its last workspace.
    """
    last: str | None = ""
    while last is not None:
        last, runs = _cut(among, conf.settings().audit_chunk)
        part = among if last is None else replace(among, last=last)
        name = f"workspaces {part.first or part.after or ''}..{part.last or ''}"
        begin(name, last)
        yield _compared(part, name, last, runs)
        among = replace(among, first=None, after=last)


def _compared(part: Range, name: str, last: str | None, runs: int) -> Part:
    pieces = ceil(runs / MOST_RUNS) or 1
    try:
        differences = [row for piece in range(pieces) for row in compare(part, part=(piece, pieces))]
    except DatabaseError as error:
        telemetry.range_not_compared(name, error)
        return Part(last, runs, [], f"{name}: {telemetry.brief(error)}")
    return Part(last, runs, differences, "")


def repair(differences: Iterable[Difference]) -> int:
    """Log the runs of drift and of what was refused as changes; flushes then put the rows right. Returns how many."""
    wrong = [each for each in differences if each.state in {DRIFT, REFUSED}]
    drift = [each for each in wrong if each.state == DRIFT]
    if drift:
        telemetry.drift_found(differences=len(drift), first=drift[0].as_json())
        slices.count(0, drift=len(drift))
    return changes.log_runs(run for each in wrong for run in each.runs)


def repair_now(differences: Iterable[Difference]) -> None:
    """Repair, and flush in this process; returns when it is done."""
    if repair(differences):
        flush.flush_all()


def runs_of(among: Range) -> int:
    """How many runs a range of workspaces has, whether they count or not."""
    ((runs,),) = rows(compose("SELECT count(*) FROM {raw} WHERE {where}", where=_where(among)))
    return int(runs)


def estimated_runs() -> int:
    """PostgreSQL's own estimate of the number of runs, those of partitions included."""
    statement = compose(
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE relkind <> 'p' AND oid IN "
        "(SELECT relid FROM pg_partition_tree({table}::regclass) WHERE isleaf UNION SELECT {table}::regclass)",
        table=value(quoted(host().run._meta.db_table)),
    )
    ((runs,),) = rows(statement)
    return int(runs)


def _cut(among: Range, size: int) -> tuple[str | None, int]:
    """The last workspace of a part of about ``size`` runs, and how many runs the part has.

    The part ends with the workspace of its ``size``-th run. The workspace is None if the range has fewer runs.
    """
    statement = compose(
        "SELECT {text} FROM {raw} WHERE {where} ORDER BY raw.workspace OFFSET {size} LIMIT 1",
        text=text_of("raw.workspace"), where=_where(among), size=size - 1,
    )  # fmt: skip
    last = next((workspace for (workspace,) in rows(statement)), None)
    return last, runs_of(among if last is None else replace(among, last=last))


def _where(among: Range) -> Sql:
    return among.where("raw.workspace") + " AND raw.workspace IS NOT NULL"


__all__ = ["EVERYWHERE", "Part", "estimated_runs", "parts", "repair", "repair_now", "runs_of"]
