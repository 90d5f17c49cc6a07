"""What ``once`` and ``serve`` begin with: servers, schema, history, the table. And how they end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import click

from demo import history, scratch
from demo.host import Workers, migrate, refuse_interruption, set_up_django, workers
from demo.narration import bar, counted, heading, line, step
from demo.servers import servers
from demo.shape import WorkspaceShape, shapes

FILL_PARTS = 8
"""Chunks that history is filled in, about."""

FILLED_WITHIN_S = 120.0

SAVES_PER_S = 40.0
"""Saves a second while history is filled."""


@contextmanager
def running_host(runs: int) -> Iterator[tuple[list[WorkspaceShape], Workers]]:
    """A platform with a history of ``runs`` runs and an empty table; its worker and beat are starting.

    All of it is stopped and removed at the end.

    Raises:
        click.ClickException: something did not start, or did not do its work in time.
    """
    stack = ExitStack()
    celery: Workers | None = None
    try:
        heading("A platform of its own, in a temporary directory")
        directory = stack.enter_context(scratch.directory())
        with step("Starting PostgreSQL and Valkey"):
            environment = stack.enter_context(servers(directory))
        with step("Creating the platform's tables and the table of recent workflows"):
            set_up_django(environment)
            migrate()
        # They take a second or two to be ready; history is loaded meanwhile.
        celery = stack.enter_context(workers(directory / "celery"))
        every = shapes(runs)
        with step("Loading history") as came_of_it:
            came_of_it(f"{counted(history.load(every), 'run')} in {counted(len(every), 'workspace')}")
        yield every, celery
    except RuntimeError as error:
        said = f"\n\nThe worker's log ends:\n{celery.log_end}" if celery else ""
        raise click.ClickException(f"{error}{said}") from error
    finally:
        refuse_interruption()
        with stack:  # stopped also if nobody is left to be told
            heading("The end")
            with step("Stopping everything"):
                _disconnect()
                stack.close()


def fill(every: Sequence[WorkspaceShape], celery: Workers) -> None:
    """Fill the table from history by a backfill on the worker, and show how far it is; runs are saved meanwhile.

    Raises:
        RuntimeError: it did not succeed, or not in time.
    """
    from demo.executions import Executions, executing

    with step("VACUUM ANALYZE, as autovacuum does on a live server"):
        history.vacuum()
    with step("Waiting for the Celery worker and beat") as came_of_it:
        celery.wait()
        came_of_it("ready")
    with executing(Executions(every), SAVES_PER_S):
        _backfill(sum(shape.runs for shape in every) // FILL_PARTS)
    with step("VACUUM ANALYZE of what is there now"):
        history.vacuum()


def _backfill(chunk_size: int) -> None:
    from backfill import runner
    from backfill.states import RunStatus

    started = time.monotonic()
    run = runner.start(chunk_size=chunk_size, actor="the demo")
    with bar("A backfill: planned, filled and verified by the worker", 200) as progress:
        while (seen := runner.status(run.pk)).run.is_open:
            if time.monotonic() - started > FILLED_WITHIN_S:
                raise RuntimeError(f"The backfill is {seen.run.status} after {FILLED_WITHIN_S:.0f} s: {seen.reasons}")
            progress.update(int(seen.fill.percent + seen.verify.percent) - progress.pos)
            time.sleep(0.1)
        progress.update(200 - progress.pos)
    if seen.run.status != RunStatus.SUCCEEDED:
        raise RuntimeError(f"The backfill {seen.run.status}: {seen.run.error}")
    line(
        f"{counted(seen.fill.planned, 'run')} in {counted(sum(seen.fill.chunks.values()), 'chunk')}: "
        f"{counted(seen.fill.rows, 'row')} written, all verified, in {time.monotonic() - started:.1f} s"
    )


def _disconnect() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()
