"""A history to fill, skewed as real ones are, and small; and what the tests do to a backfill step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from backfill import control, leases, models, planner, ranges, worker
from backfill.models import Backfill, Chunk
from backfill.progress import Progress
from tests.hosts.adapter import Host, moment
from tests.oracle import Row, assert_exact, flush_all
from tests.sessions import execute, query
from workflows_tasks import history as history_of_package
from workflows_tasks.history import Range
from workflows_tasks.models import WorkspaceRecentWorkflow

HEAVY, LIGHT, SMALL = 130, 13, 4
CHUNK = 40
WORKFLOWS, USERS = 6, 5
MINUTES = 10
TABLE = WorkspaceRecentWorkflow._meta.db_table


@contextmanager
def not_captured() -> Iterator[None]:
    """Writes inside fire no trigger, as those of before the installation."""
    with transaction.atomic():
        ((before,),) = query("SELECT current_setting('session_replication_role')")
        execute("SET LOCAL session_replication_role = replica")
        yield
        execute(f"SET LOCAL session_replication_role = {before}")


class History:
    """Runs from before the triggers: one workspace has more than half of them, and more than three chunks."""

    def __init__(self, host: Host) -> None:
        self.host = host
        with not_captured():
            self.workflows = [host.make_workflow() for _ in range(WORKFLOWS)]
            self.users = [host.make_user() for _ in range(USERS)]
            self.heavy = host.make_workspace()
            self.light = [host.make_workspace() for _ in range(LIGHT)]
            self.add(HEAVY, self.heavy)
            self.add(LIGHT * SMALL, *self.light)
            host.run_model._base_manager.filter(pk=self.newest(self.heavy)).update(**host.hidden)

    def add(self, count: int, *workspaces: Any) -> list[Any]:
        """Insert runs that nobody captured, used in the first ten minutes."""
        with not_captured():
            keys = self.host.make_runs(count, workspaces=workspaces, workflows=self.workflows, users=self.users)
            for minute in range(MINUTES):
                runs = self.host.run_model._base_manager.filter(pk__in=keys[minute::MINUTES])
                runs.update(**{self.host.used_at_field: moment(minute)})
        return keys

    def newest(self, workspace: Any) -> Any:
        """The key of a run that nobody captured, and that is newer than all others."""
        (key,) = self.add(1, workspace)
        with not_captured():
            self.host.run_model._base_manager.filter(pk=key).update(**{self.host.used_at_field: moment(100)})
        return key

    @property
    def runs(self) -> int:
        """How many history counts."""
        return sum(t.counts and None not in (t.workspace, t.workflow, t.used_at) for t in self.host.truths())

    def text(self, workspace: Any) -> str:
        """The workspace's key as plans have it."""
        return history_of_package.workspace_text(self.host.workspace_key(workspace))

    def only(self, workspace: Any) -> Range:
        """The range of one workspace."""
        return Range(first=self.text(workspace), last=self.text(workspace))

    def save_run(self, workspace: Any, minutes: float = 10_000.0) -> Any:
        """A run that is saved the ordinary way."""
        return self.host.make_run(
            workspace=workspace, workflow=self.workflows[0], user=self.users[0], used_at=moment(minutes)
        )


def start_backfill(*args: Any, **options: Any) -> Backfill:
    """A backfill, enqueued."""
    return control.start(*args, **{"chunk_size": CHUNK, "actor": "a test", **options})


def plan_backfill(*args: Any, **options: Any) -> Backfill:
    """A backfill whose chunks are stored, and none is claimed."""
    backfill = start_backfill(*args, **options)
    planner.carry_out(backfill.pk)
    return control.get(backfill.pk)


def carry_out(backfill: Backfill) -> Progress:
    """Work on a backfill in this process until it ends or is paused."""
    for _ in range(200):
        worker.work(backfill.pk)
        now = control.get(backfill.pk)
        if now.has_ended or now.status == "paused":
            return control.status(backfill.pk)
    raise AssertionError(f"never ended: {control.status(backfill.pk).as_json()}")


def fill_all(backfill: Backfill) -> None:
    """Work on all chunks that are to be filled, and on none that is to be verified."""
    while control.get(backfill.pk).status == "running":
        worker._attempt(claim_chunk(backfill), 1e12)


def assert_complete(history: History, progress: Progress) -> list[Row]:
    """It succeeded with all that was planned and not one more, and the table is exact."""
    assert progress.backfill.status == "succeeded", progress.as_json()
    for phase in (progress.fill, progress.verify):
        assert phase.done == phase.planned
        assert phase.percent == 100
    flush_all()
    return assert_exact(history.host)


def chunks(backfill: Backfill, **having: Any) -> list[Chunk]:
    return list(models.chunks(backfill).filter(**having).order_by("id"))


def claim_chunk(backfill: Backfill) -> leases.Lease:
    lease = leases.claim(backfill.pk)
    assert lease is not None
    return lease


def expire(lease: leases.Lease) -> None:
    """As if its worker had said nothing for long."""
    models.chunks().filter(pk=lease.chunk.pk).update(lease_until=Now() - timedelta(seconds=1))


def fill_batch(lease: leases.Lease, *, steps: int = 1, before_commit: Callable[[], None] = lambda: None) -> None:
    """Fill the next steps of a chunk in one transaction, as a worker does, and no more."""
    loaded = ranges.load(lease.chunk.steps)
    left = loaded[steps:]

    def commit(written: int) -> None:
        before_commit()
        leases.commit(lease, left, written=written)

    history_of_package.fill(ranges.join(loaded[:steps]).range, before_commit=commit)
    lease.chunk.refresh_from_db()


@contextmanager
def refusing(body: str, *, when: str = "BEFORE INSERT OR UPDATE", each: str = "FOR EACH ROW") -> Iterator[None]:
    """Somebody's own trigger on the table; ``body`` is PL/pgSQL."""
    execute(
        f"CREATE FUNCTION of_a_test() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;"
        f' CREATE TRIGGER of_a_test {when} ON "{TABLE}" {each} EXECUTE FUNCTION of_a_test()'
    )
    try:
        yield
    finally:
        if connection.connection.closed:
            connection.close()
        execute("DROP FUNCTION of_a_test() CASCADE")


def refused(*runs: Any) -> Any:
    """Rows that name these runs are refused, as by somebody's own rule."""
    named = ", ".join(f"'{run}'" for run in runs)
    return refusing(f"IF NEW.last_run_id::text IN ({named}) THEN RAISE EXCEPTION 'refused, whoever asks'; END IF;")
