"""Workspaces that share a shard, and what a flush of it leaves."""

from __future__ import annotations

from typing import Any

from tests.hosts.adapter import Host, moment
from tests.oracle import Row, expected, stored
from workflows_tasks import conf
from workflows_tasks.keys import shard_of
from workflows_tasks.models import Shard


class Neighbours:
    """Workspaces of one shard, a user and two workflows."""

    def __init__(self, host: Host, count: int = 3) -> None:
        self.host = host
        shards = range(conf.settings().shards)
        Shard.objects.bulk_create([Shard(number=number) for number in shards], ignore_conflicts=True)
        self.user = host.make_user()
        self.workflow, self.another = host.make_workflow(), host.make_workflow()
        first = host.make_workspace()
        self.shard = self._shard_of(first)
        self.workspaces = [first]
        while len(self.workspaces) < count:
            made = host.make_workspace()
            if self._shard_of(made) == self.shard:
                self.workspaces.append(made)

    def _shard_of(self, workspace: Any) -> int:
        return shard_of(str(self.host.workspace_key(workspace)), conf.settings().shards)

    def run(self, minute: float, workspace: int = 0, **fields: Any) -> Any:
        """A new run in one of the workspaces, saved the ordinary way."""
        ours = {"workspace": self.workspaces[workspace], "workflow": self.workflow, "user": self.user}
        return self.host.make_run(**{**ours, **fields}, used_at=moment(minute))

    def counters(self) -> dict[str, float]:
        """What flushes of the shard have counted."""
        return dict(Shard.objects.get(number=self.shard).counters)

    def error(self) -> str:
        """The error that flushes of the shard meet."""
        return str(Shard.objects.get(number=self.shard).error)


def assert_exact_but_for(host: Host, *refused: Any) -> None:
    """The table is exact, except that it lacks the rows of these runs, which the database refuses."""
    true, there = set(expected(host)), set(stored())
    keys = {run.pk for run in refused}
    missing = {row for row in true if row.run in keys}
    assert missing, "nothing was refused, so this proves nothing"
    assert true - missing == {row for row in there if _key(row) not in set(map(_key, missing))}


def _key(row: Row) -> tuple[Any, str, Any]:
    return row.workspace, row.uid, row.workflow
