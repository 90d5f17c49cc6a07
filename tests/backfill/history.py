"""A history to fill: skewed as real ones are, and small."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now

from backfill import leases, rows, runner, spans, work
from backfill.models import Run
from backfill.progress import Progress
from tests.hosts.adapter import Host, moment
from tests.oracle import Row, assert_exact, flush_all, idle
from tests.waiting import until
from workflows_tasks import projection

HEAVY, LIGHT, SMALL = 130, 13, 4
CHUNK = 40
WORKFLOWS, USERS = 6, 5
MINUTES = 10


class History:
    """Runs that nobody announced: one workspace has more than half of them, and more than three chunks."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.workflows = [host.make_workflow() for _ in range(WORKFLOWS)]
        self.users = [host.make_user() for _ in range(USERS)]
        self.heavy = host.make_workspace()
        self.light = [host.make_workspace() for _ in range(LIGHT)]
        self.add(HEAVY, self.heavy)
        self.add(LIGHT * SMALL, *self.light)
        host.run_model._base_manager.filter(pk=self.newest(self.heavy)).update(**host.hidden)

    def add(self, count: int, *workspaces: Any) -> list[Any]:
        """Insert runs without a word, used in the first ten minutes."""
        keys = self.host.make_runs(count, workspaces=workspaces, workflows=self.workflows, users=self.users)
        for minute in range(MINUTES):
            runs = self.host.run_model._base_manager.filter(pk__in=keys[minute::MINUTES])
            runs.update(**{self.host.used_at_field: moment(minute)})
        return keys

    def newest(self, workspace: Any) -> Any:
        """The key of a run that nobody announced, and that is newer than all others."""
        (key,) = self.add(1, workspace)
        self.host.run_model._base_manager.filter(pk=key).update(**{self.host.used_at_field: moment(100)})
        return key

    @property
    def runs(self) -> int:
        """How many history counts."""
        return sum(t.counts and None not in (t.workspace, t.workflow, t.used_at) for t in self.host.truths())

    def key(self, workspace: Any) -> Any:
        return self.host.workspace_key(workspace)

    def saved(self, workspace: Any, minutes: float = 10_000.0) -> Any:
        """A run that is saved the ordinary way."""
        return self.host.make_run(
            workspace=workspace, workflow=self.workflows[0], user=self.users[0], used_at=moment(minutes)
        )


def started(**options: Any) -> Run:
    """A backfill, enqueued."""
    return runner.start(**{"chunk_size": CHUNK, "actor": "a test", **options})


def planned(**options: Any) -> Run:
    """A backfill whose chunks are stored, and none is claimed."""
    from backfill import planning

    run = started(**options)
    planning.carry_out(run.pk)
    return runner.get(run.pk)


def carried_out(run: Run) -> Progress:
    """Work on a backfill in this process until it ends or is paused."""
    for _ in range(200):
        work.work(run.pk)
        now = runner.get(run.pk)
        if not now.is_open or now.status == "paused":
            return runner.status(run.pk)
    raise AssertionError(f"never ended: {runner.status(run.pk).as_json()}")


def assert_complete(history: History, progress: Progress) -> list[Row]:
    """It succeeded with all that was planned and not one more, and the table is exact."""
    assert progress.run.status == "succeeded", progress.as_json()
    for phase in (progress.fill, progress.verify):
        assert phase.done == phase.planned
        assert phase.percent == 100
    flush_all()
    until(idle)  # a worker may have claimed what this process did not find
    return assert_exact(history.host)


def chunks(run: Run, **having: Any) -> list[Any]:
    return list(rows.chunks(run).filter(**having).order_by("id"))


def expire(lease: leases.Lease) -> None:
    """As if its worker had said nothing for long."""
    rows.chunks().filter(pk=lease.chunk.pk).update(lease_until=Now())


def fill_first_batch(lease: leases.Lease) -> None:
    """What a worker does first with a chunk, and no more."""
    first, *left = spans.loaded(lease.chunk.steps)
    projection.raise_history(
        first.workspaces, before_commit=lambda written: leases.commit(lease, left, written=written)
    )
