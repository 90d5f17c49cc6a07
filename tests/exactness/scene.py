"""What the actors act on: two workspaces of one shard and one of another, a user, a workflow; runs by the minute."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from tests.exactness.stepping import Actor, locked
from tests.hosts.adapter import Host, moment
from tests.oracle import Row, assert_exact, flush_all, stored
from workflows_tasks import inbox
from workflows_tasks.flush import Flushed, flush
from workflows_tasks.host import host as resolved
from workflows_tasks.ids import encode
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql.fragments import Workspaces

TABLE = WorkspaceRecentWorkflow._meta.db_table
LOCK_FIRST_ROW = f"SELECT FROM {TABLE} WHERE workspace_id = %s AND uid = '' FOR UPDATE"
LOCK_ROWS_AT_ONCE = f"SELECT FROM {TABLE} WHERE workspace_id = %s FOR UPDATE NOWAIT"
CROWD = 8


class Scene:
    """Runs are named by their minute: R5 is newer than R4. What is not said otherwise is of ``workspace``."""

    def __init__(self, host: Host) -> None:
        self.host = host
        first = host.make_workspace()
        self.shard = self.shard_of(first)
        # In key order, so that who writes rows of both writes the earlier one's first.
        self.earlier, self.workspace = self._in_key_order(first, self._workspace(beyond=False))
        self.beyond = self._workspace(beyond=True)
        self.user = host.make_user()
        self.workflow = host.make_workflow()
        self.users: list[Any] = []
        """The crowd's, where there is one."""

    def run(
        self, minute: float, *, workspace: Any = None, workflow: Any = None, user: Any = None, hidden: bool = False
    ) -> Any:
        """Save a run the ordinary way: it is announced, and not flushed yet."""
        return self.host.make_run(
            workspace=workspace or self.workspace,
            workflow=workflow or self.workflow,
            user=user or self.user,
            used_at=moment(minute),
            hidden=hidden,
        )

    def run_beyond(self, minute: float, *, hidden: bool = False) -> Any:
        """The same; its own id falls into another shard than its workspace, and everything is in the table."""
        while inbox.shard_of(encode((run := self.run(minute, hidden=hidden)).pk)) == self.shard:
            run.delete()
        self.settle()
        return run

    def silent_run(self, minute: float, *, workspace: Any = None) -> Any:
        """Insert a run that nobody announces: history, or a lost message."""
        host = self.host
        (pk,) = host.make_runs(
            1, workspaces=[workspace or self.workspace], workflows=[self.workflow], users=[self.user]
        )
        run = host.run_model._base_manager.get(pk=pk)
        host.set_used_at(run, moment(minute))
        return run

    def fresh(self, pk: Any) -> Any:
        return self.host.run_model._base_manager.get(pk=pk)

    def in_part(self, run: Any) -> Any:
        """The run as a save or a cascade has it that did not load its workspace: announced by its own id's shard."""
        return self.host.run_model._base_manager.only("pk").get(pk=run.pk)

    def delete_silently(self, run: Any) -> None:
        for model in (self.host.run_model, *self.host.run_model._meta.parents):
            runs = model._base_manager.filter(pk=run.pk)
            runs._raw_delete(runs.db)

    def update(self, run: Any, **fields: Any) -> None:
        """Change a run by a statement that no signal sees, and say nothing."""
        self.host.run_model._base_manager.filter(pk=run.pk).update(**fields)

    def lead_on(self, run: Any, workflow: Any) -> None:
        """Point the version that the run uses to another workflow."""
        *hops, last = resolved().path
        version = run
        for hop in hops:
            version = getattr(version, hop.name)
        setattr(version, last.name, workflow)
        version.save()

    def flush(self, *pauses: str) -> Actor[Flushed]:
        """A flush of the shard, as far as it comes."""
        return Actor(partial(flush, self.shard), *pauses).stands()

    def flush_others(self, *pauses: str) -> list[Actor[Flushed]]:
        """A flush of each shard where something is pending, as far as it comes."""
        pending = [each.shard for each in inbox.status() if each.pending]
        return [Actor(partial(flush, shard), *pauses).stands() for shard in pending]

    def held_up(self) -> AbstractContextManager[None]:
        """Within, whoever writes the earlier workspace's first row waits before it, with its snapshot taken."""
        return locked(LOCK_FIRST_ROW, self.key_of(self.earlier))

    def assert_later_rows_are_free(self) -> None:
        """Nobody holds a row of the later workspace."""
        with locked(LOCK_ROWS_AT_ONCE, self.key_of(self.workspace)):
            pass

    def crowd(self, minute: float) -> list[Any]:
        """A run in the earlier workspace and one of each of many users in the later one; the later ones first."""
        self.users = self.users or [self.host.make_user() for _ in range(CROWD)]
        later = [self.run(minute, user=user) for user in self.users]
        return [*later, self.run(minute, workspace=self.earlier)]

    def settle(self) -> list[Row]:
        """Flush what is pending; the table is then exact."""
        flush_all()
        return assert_exact(self.host)

    def shows(self, *runs: Any) -> None:
        """Flush what is pending; the table is then exact, and these are the runs that its rows name."""
        assert {row.run for row in self.settle()} == {run.pk for run in runs}

    def names(self, *runs: Any) -> bool:
        """Whether just these runs are in the table as it is."""
        return {row.run for row in stored()} == {run.pk for run in runs}

    @property
    def only_here(self) -> Workspaces:
        """``workspace``, as a range."""
        return Workspaces(self.key_of(self.workspace), self.key_of(self.workspace))

    def key_of(self, workspace: Any) -> Any:
        return self.host.workspace_key(workspace)

    def shard_of(self, workspace: Any) -> int:
        return inbox.shard_of(self.key_of(workspace))

    def _workspace(self, *, beyond: bool) -> Any:
        """A workspace of the same shard, or of another."""
        while (self.shard_of(made := self.host.make_workspace()) == self.shard) is beyond:
            pass
        return made

    def _in_key_order(self, *workspaces: Any) -> list[Any]:
        found = self.host.workspace_model._base_manager.filter(pk__in=[each.pk for each in workspaces])
        return list(found.order_by(resolved().workspace.target_field.name))


def finish(actors: list[Actor[Flushed]]) -> None:
    for actor in actors:
        actor.finish()
