"""The table beside what the runs say: nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from django.db import connections

from workflows_tasks import inbox
from workflows_tasks.host import host
from workflows_tasks.ids import encode
from workflows_tasks.sql import looks
from workflows_tasks.sql.fragments import Statement, Workspaces, prepared


class Comparison(NamedTuple):
    """One key: the stored use of a workflow, None where there is no row, and the true one, None where no run is."""

    shard: int
    workspace: Any
    uid: str
    workflow: Any
    stored_used_at: Any
    stored_run: Any
    used_at: Any
    run: Any

    @property
    def runs(self) -> list[Any]:
        """The runs to look at, to see whether it still differs."""
        return [run for run in (self.run, self.stored_run) if run is not None]

    @property
    def kind(self) -> str:
        """``agrees``, or how they differ: ``missing``, ``extra``, ``wrong tie``, ``stale``."""
        if (self.stored_used_at, self.stored_run) == (self.used_at, self.run):
            return "agrees"
        if self.stored_run is None:
            return "missing"
        if self.run is None:
            return "extra"
        return "wrong tie" if self.stored_used_at == self.used_at else "stale"

    def as_json(self) -> dict[str, Any]:
        """For a table or a machine; keys as text."""
        return {
            "verdict": self.kind,
            "workspace": str(self.workspace),
            "uid": self.uid,
            "workflow": str(self.workflow),
            "stored_used_at": self.stored_used_at and self.stored_used_at.isoformat(),
            "stored_run": None if self.stored_run is None else encode(self.stored_run),
            "used_at": self.used_at and self.used_at.isoformat(),
            "run": None if self.run is None else encode(self.run),
        }


def compare(
    workspaces: Workspaces, *, uid: str | None = None, all_rows: bool = False, since: Any = None
) -> list[Comparison]:
    """Table and runs of a range of workspaces in one snapshot: where they differ, or every key."""
    return [Comparison(*row) for row in rows(looks.compare(workspaces, uid=uid, all_rows=all_rows, since=since))]


def chunk(workspaces: Workspaces, size: int) -> tuple[Any, int]:
    """Where to cut a range of workspaces after about ``size`` runs, never inside a workspace; and how many they are.

    The workspace is None where the rest of the range has fewer.
    """
    cut = next((row[0] for row in rows(looks.cut(workspaces, size))), None)
    return cut, runs_of(workspaces if cut is None else replace(workspaces, last=cut))


def runs_of(workspaces: Workspaces) -> int:
    """How many runs a range of workspaces has, whether they count or not."""
    ((runs,),) = rows(looks.count(workspaces))
    return int(runs)


def lost(suspects: Iterable[Any]) -> dict[str, int]:
    """Which of these runs the table is wrong about and nothing on its way will put right: run id -> shard.

    The order makes it sure: first those that wait in the inbox are left out, then the others are looked at anew. Every
    difference shows here: a true run above its row rises, a row above its true run is itself untrue.
    """
    runs = {encode(run): run for run in suspects}
    waiting = inbox.where_is(runs)
    keys = prepared(host().run_key, [run for text, run in runs.items() if text not in waiting])
    if not keys:
        return {}
    found = {encode(run): shard for run, shard in rows(looks.rising_among(keys))}
    return found | {encode(run): shard for shard, *_, run in rows(looks.stale_rows(keys))}


def rows(statement: Statement) -> list[Any]:
    """What a statement that only looks returns."""
    with connections[host().database].cursor() as cursor:
        cursor.execute(*statement)
        return list(cursor.fetchall())
