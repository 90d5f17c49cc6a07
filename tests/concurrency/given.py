"""What is there before the actors begin: workspaces of one shard and one of another, a user, a workflow, runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connection, transaction

from tests.concurrency.stepping import Actor
from tests.hosts.adapter import Host, moment
from tests.oracle import Row, assert_exact, flush_all, stored
from workflows_tasks import conf, history
from workflows_tasks.host import host as resolved
from workflows_tasks.keys import shard_of
from workflows_tasks.models import CHANGES, Shard
from workflows_tasks.projection.flush import Flushed, flush
from workflows_tasks.projection.ranges import Range


class Given:
    """Runs are made by their minute: that of minute 5 is newer than that of 4. All is of ``workspace`` by default."""

    def __init__(self, host: Host) -> None:
        self.host = host
        shards = range(conf.settings().shards)
        Shard.objects.bulk_create([Shard(number=number) for number in shards], ignore_conflicts=True)
        first = host.make_workspace()
        self.shard = self.shard_of(first)
        # In key order, so that whoever writes rows of both writes the earlier one's first.
        self.earlier, self.workspace = self._in_key_order(first, self._workspace(beyond=False))
        self.beyond = self._workspace(beyond=True)
        self.user = host.make_user()
        self.workflow = host.make_workflow()

    def run(self, minute: float, *, workspace: Any = None, workflow: Any = None, user: Any = None) -> Any:
        """Save a run the ordinary way: its changes are logged, and not flushed yet."""
        return self.host.make_run(
            workspace=workspace or self.workspace,
            workflow=workflow or self.workflow,
            user=user or self.user,
            used_at=moment(minute),
        )

    def old_run(self, minute: float, *, workspace: Any = None) -> Any:
        """A run from before there were triggers: no change names it. Nothing else waits, either."""
        run = self.run(minute, workspace=workspace)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {CHANGES}")
        return run

    def use(self, run: Any, minute: float) -> None:
        """Used at another moment, earlier or later."""
        self.host.set_used_at(run, moment(minute))

    def delete(self, run: Any) -> None:
        """Delete the run alone."""
        for model in (self.host.run_model, *self.host.run_model._meta.parents):
            runs = model._base_manager.filter(pk=run.pk)
            runs._raw_delete(runs.db)

    def flush(self, *pauses: str, workspace: Any = None) -> Actor[Flushed]:
        """A flush of the shard, as far as it comes."""
        shard = self.shard if workspace is None else self.shard_of(workspace)
        return Actor(partial(flush, shard), *pauses).stands()

    def fill(self, *pauses: str, among: Range | None = None) -> Actor[int]:
        """A fill of the workspace, as far as it comes."""
        return Actor(lambda: history.fill(among or self.range), *pauses).stands()

    def close_chunk(self) -> None:
        """What a backfill does when all of a chunk is filled."""
        with history.read_committed({}):
            history.recheck_filled(self.range)

    @property
    def range(self) -> Range:
        """The workspace alone."""
        key = history.workspace_text(self.workspace)
        return Range(first=key, last=key)

    def settle(self) -> list[Row]:
        """Flush what waits; the table is then exact."""
        flush_all()
        return assert_exact(self.host)

    def assert_rows_name(self, *runs: Any) -> None:
        """Just these runs are in the table as it is now."""
        assert {row.run for row in stored()} == {run.pk for run in runs}

    def shard_of(self, workspace: Any) -> int:
        return shard_of(history.workspace_text(workspace), conf.settings().shards)

    def hops(self, run: Any) -> list[Any]:
        """The instances between a run and its workflow."""
        found, at = [], run
        for hop in resolved().path[:-1]:
            at = getattr(at, hop.name)
            found.append(at)
        return found

    def lead_to(self, run: Any, workflow: Any) -> None:
        """Point the last of the instances between a run and its workflow to another workflow."""
        last = self.hops(run)[-1]
        type(last)._base_manager.filter(pk=last.pk).update(**{resolved().path[-1].name: workflow})

    def _workspace(self, *, beyond: bool) -> Any:
        """A workspace of the same shard, or of another."""
        while (self.shard_of(made := self.host.make_workspace()) == self.shard) is beyond:
            pass
        return made

    def _in_key_order(self, *workspaces: Any) -> list[Any]:
        found = self.host.workspace_model._base_manager.filter(pk__in=[each.pk for each in workspaces])
        return list(found.order_by(resolved().workspace.target_field.name))


def ways_to_go(given: Given) -> dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]]:
    """How the newest run of a key stops being that, and how it becomes that again."""
    return {
        "deleted": (given.delete, lambda run: _make_again(given, run)),
        "hidden": (given.host.hide, given.host.unhide),
        "set back": (lambda run: given.use(run, 0), lambda run: given.use(run, 2)),
        "moved": (
            lambda run: given.host.move_to_workspace(run, given.beyond),
            lambda run: given.host.move_to_workspace(run, given.workspace),
        ),
    }


def _make_again(given: Given, run: Any) -> None:
    """Under its key, and of the same moment: saving may set it to now."""
    used_at = getattr(run, given.host.used_at_field)
    with transaction.atomic():
        run.save(force_insert=True)
        given.host.set_used_at(run, used_at)

        # Rows that lead nowhere are the test's, and are deleted with it.
