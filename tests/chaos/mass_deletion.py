"""``python -m tests.chaos.mass_deletion``: thousands of rows lose their runs at once, with a real worker.

Two cases, with the settings that a host gets by default. ``workflows``: a workspace of 200,000 runs and 1,000 users, of
whose 50 workflows 15 are deleted at once. ``million``: one workflow of 1,000,000 runs and 4,000 users is deleted.
Another workspace of the same shard is saved meanwhile. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import click

from demo import scratch
from demo.host import end_with_parent, refuse_interruption
from tests.chaos.stage import Stage, stage
from tests.waiting import until

EXACT_WITHIN_S: Final = 15.0
VISIBLE_WITHIN_S: Final = 3.0
GIVEN_UP_AFTER_S: Final = 300.0
KILLED: Final = ("TimeLimitExceeded", "Hard time limit", "Soft time limit", "exited prematurely")
"""What Celery says of a task that it killed."""


@dataclass(frozen=True)
class Case:
    """One workspace, and what of it is deleted."""

    runs: int
    users: int
    workflows: int
    deleted: int


CASES: Final = {
    "workflows": Case(runs=200_000, users=1_000, workflows=50, deleted=15),
    "million": Case(runs=1_000_000, users=4_000, workflows=1, deleted=1),
}


@dataclass
class Outcome:
    """What was measured."""

    deleting_s: float = 0.0
    """The host's own statement, until its commit."""
    changes: int = 0
    exact_s: float = 0.0
    """From the commit until nothing waits and the table is exact."""
    visible_s: list[float] = field(default_factory=list)
    """Of each save in the other workspace, from its commit."""
    slices: int = 0
    slowest_slice_s: float = 0.0
    kills: int = 0
    differences: list[str] = field(default_factory=list)
    killed_tasks: list[str] = field(default_factory=list)

    def misses(self, *, with_kills: bool) -> list[str]:
        """Goals that are missed."""
        missed = [f"{len(self.differences)} differences, the first {self.differences[0]}"] if self.differences else []
        if with_kills:
            return missed
        if self.exact_s > EXACT_WITHIN_S:
            missed.append(f"exact after {self.exact_s:.1f} s, not {EXACT_WITHIN_S:g}")
        if max(self.visible_s, default=0.0) > VISIBLE_WITHIN_S:
            missed.append(f"another workspace visible after {max(self.visible_s):.1f} s, not {VISIBLE_WITHIN_S:g}")
        return missed + [f"a task was killed: {line}" for line in self.killed_tasks[:1]]

    def __str__(self) -> str:
        lags = sorted(self.visible_s)
        seen = f"p50 {lags[len(lags) // 2]:.2f} s, slowest {lags[-1]:.2f} s of {len(lags)}" if lags else "no save"
        return (
            f"deleted in {self.deleting_s:.1f} s, {self.changes:,} changes; exact {self.exact_s:.1f} s later, by "
            f"{self.slices} slices, the slowest {self.slowest_slice_s:.2f} s; {self.kills} kills; "
            f"another workspace of the shard: {seen}"
        )


@click.command(help=__doc__)
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Only this case.")
@click.option("--kill/--no-kill", default=None, help="Only with, or without, a worker killed every 3 s.")
@click.option("--scale", default=1.0, show_default=True, help="Share of the runs and users.")
def main(names: tuple[str, ...], kill: bool | None, scale: float) -> None:
    end_with_parent()
    missed = []
    for name in names or CASES:
        for with_kills in [False, True] if kill is None else [kill]:
            what = f"{name}{', a worker killed every 3 s' if with_kills else ''}"
            pid = os.fork()  # Django is set up once in a process, for one set of servers
            if pid == 0:
                os._exit(_one(what, CASES[name], scale, with_kills=with_kills))
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                missed.append(what)
    sys.exit(bool(missed))


def _one(what: str, case: Case, scale: float, *, with_kills: bool) -> int:
    end_with_parent()
    with ExitStack() as stack:
        directory = stack.enter_context(scratch.directory())
        running = stack.enter_context(stage(directory))
        stack.callback(refuse_interruption)
        try:
            outcome = measure(running, case, scale=scale, kill_every_s=3.0 if with_kills else None)
        finally:
            _save_logs(running, what)
    missed = outcome.misses(with_kills=with_kills)
    click.echo(f"{what}: {outcome}")
    for each in missed:
        click.echo(f"  MISSED: {each}")
    return int(bool(missed))


def _save_logs(running: Stage, what: str) -> None:
    """For whoever wants to know more: in the directory that ``KEEP_LOGS`` names."""
    if kept := os.environ.get("KEEP_LOGS"):
        Path(kept, f"{what.replace(' ', '_')}.log").write_text(running.logs())


def measure(running: Stage, case: Case, *, scale: float = 1.0, kill_every_s: float | None = None) -> Outcome:
    """Load the workspace, delete, and watch until the table is exact."""
    from demo import oracle
    from demo.bots.models import PublishedRun
    from tests.oracle import is_idle
    from workflows_tasks.models import Shard
    from workflows_tasks.projection import changes

    workspace, workflows = _load(case, scale)
    assert oracle.differences() == []
    running.start_celery()
    neighbour = _same_shard_as(workspace)
    outcome = Outcome()
    before = _counters()
    killer = _Killer(running, kill_every_s, outcome)
    with _saving(neighbour, outcome):
        until(lambda: len(outcome.visible_s) >= 2, within_s=30)
        started_s = time.monotonic()
        PublishedRun.objects.filter(pk__in=workflows[: case.deleted]).delete()
        committed_s = time.monotonic()
        outcome.deleting_s = committed_s - started_s
        outcome.changes = _logged(workspace)

        def is_exact() -> bool:
            """Nothing of the workspace waits, nor any scope of its shard."""
            killer.tick()
            return not _waits(workspace)

        until(is_exact, within_s=GIVEN_UP_AFTER_S)
        outcome.exact_s = time.monotonic() - committed_s
    until(is_idle, within_s=30)
    outcome.differences = [str(each) for each in oracle.differences()]
    after = _counters()
    outcome.slices = round(after["slices"] - before.get("slices", 0))
    outcome.slowest_slice_s = _slowest_slice_s(running)
    outcome.killed_tasks = [line for line in running.logs().splitlines() if any(text in line for text in KILLED)]
    assert not Shard.objects.exclude(error="").exists()
    assert not any(shard.quarantined for shard in changes.status())
    return outcome


def _load(case: Case, scale: float) -> tuple[int, list[int]]:
    """The workspace and a hundred small ones, without triggers, and the table filled; returns its key and workflows."""
    from django.db import connection, transaction

    from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
    from tests.vacuum import vacuum
    from workflows_tasks import history
    from workflows_tasks.models import WorkspaceRecentWorkflow

    runs, users = int(case.runs * scale), int(case.users * scale)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        workspaces = Workspace.objects.bulk_create([Workspace(name=f"Workspace {n}") for n in range(101)])
        titles = [f"Workflow {n}" for n in range(case.workflows + 20)]
        workflows = PublishedRun.objects.bulk_create([PublishedRun(title=title) for title in titles])
        versions = PublishedRunVersion.objects.bulk_create(
            [PublishedRunVersion(published_run=each) for each in workflows]
        )
        own = [each.pk for each in versions[: case.workflows]]
        _insert_runs(cursor, workspaces[0].pk, own, runs=runs, users=users)
        for each in workspaces[1:]:
            of_others = [version.pk for version in versions[case.workflows :]]
            _insert_runs(cursor, each.pk, of_others, runs=500, users=10)
    history.fill(history.EVERYWHERE)
    vacuum(SavedRun, WorkspaceRecentWorkflow)
    return workspaces[0].pk, [each.pk for each in workflows]


def _insert_runs(cursor: Any, workspace: int, versions: list[int], *, runs: int, users: int) -> None:
    """Runs of every user of each version in turn, a second apart; the other columns are those of a new run."""
    from demo.bots.models import SavedRun

    pattern = SavedRun.objects.create()
    given = {
        "workspace_id": "%s",
        "uid": "'user-' || mod(n, %s)",
        "parent_version_id": "(%s::bigint[])[1 + mod(n / %s, %s)]",
        "updated_at": "timestamptz '2026-01-01' + n * interval '1 second'",
    }
    columns = [str(field.column) for field in SavedRun._meta.concrete_fields if not field.primary_key]
    assert [column for column in columns if column in given] == list(given), "the order of the parameters"
    cursor.execute(
        f"INSERT INTO bots_savedrun ({', '.join(columns)}) "
        f"SELECT {', '.join(given.get(column, column) for column in columns)} "
        "FROM bots_savedrun CROSS JOIN generate_series(0, %s) AS n WHERE id = %s",
        [workspace, users, versions, users, len(versions), runs - 1, pattern.pk],
    )
    pattern.delete()


def _same_shard_as(workspace: int) -> Any:
    """A new workspace of the same shard."""
    from demo.bots.models import Workspace
    from workflows_tasks import conf
    from workflows_tasks.keys import shard_of

    shards = conf.settings().shards
    while True:
        made = Workspace.objects.create(name="Another")
        if shard_of(str(made.pk), shards) == shard_of(str(workspace), shards):
            return made


@contextmanager
def _saving(workspace: Any, outcome: Outcome) -> Iterator[None]:
    """Save a run in another workspace again and again, and note how long each takes to be visible."""
    from django.db import connections

    ended = Event()

    def save() -> None:
        while not ended.is_set():
            outcome.visible_s.append(_seconds_until_visible(workspace))
            ended.wait(0.3)
        connections.close_all()

    thread = Thread(target=save)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _seconds_until_visible(workspace: Any) -> float:
    from demo.bots.models import PublishedRunVersion, SavedRun
    from workflows_tasks.models import WorkspaceRecentWorkflow

    version = PublishedRunVersion.objects.order_by("pk").last()  # of the small workspaces
    run = SavedRun.objects.create(workspace=workspace, uid="somebody", parent_version=version)
    committed_s = time.monotonic()
    until(WorkspaceRecentWorkflow.objects.filter(workspace=workspace, last_run=run).exists, within_s=GIVEN_UP_AFTER_S)
    return time.monotonic() - committed_s


class _Killer:
    """Kills the whole worker every so often, and starts it again, as a supervisor does.

    Call ``tick`` often, always in one thread: a process dies with the thread that started it.
    """

    def __init__(self, running: Stage, every_s: float | None, outcome: Outcome) -> None:
        self._running, self._every_s, self._outcome = running, every_s, outcome
        self._next_s = 0.0

    def tick(self) -> None:
        now_s = time.monotonic()
        if self._every_s is None or now_s < self._next_s:
            return
        if self._next_s:  # the first time is soon, for it may be over in three seconds
            self._running.workers[0].kill(signal.SIGKILL)
            self._outcome.kills += 1
            self._running.replace_the_ended()
        self._next_s = now_s + (self._every_s if self._next_s else 1.0)


def _logged(workspace: int) -> int:
    """Changes of a workspace in the log."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM workflows_tasks_change WHERE workspace = %s", [str(workspace)])
        return int(cursor.fetchone()[0])


def _waits(workspace: int) -> bool:
    """Whether the log has a change of a workspace, or a scope of its shard. By index: it is asked all the time."""
    from django.db import connection

    from workflows_tasks import conf
    from workflows_tasks.keys import shard_of

    shard = shard_of(str(workspace), conf.settings().shards)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM workflows_tasks_change WHERE shard = %s AND workspace = %s)"
            " OR EXISTS (SELECT FROM workflows_tasks_change WHERE shard = %s AND workspace IS NULL)",
            [shard, str(workspace), shard],
        )
        return bool(cursor.fetchone()[0])


def _counters() -> dict[str, float]:
    from workflows_tasks.models import Shard
    from workflows_tasks.monitoring import telemetry

    return telemetry.merged(Shard.objects.values_list("counters", flat=True))


def _slowest_slice_s(running: Stage) -> float:
    took = [part.removeprefix("took_s=") for part in running.logs().split() if part.startswith("took_s=")]
    return max(map(float, took), default=0.0)


if __name__ == "__main__":
    main()
