"""What ``once`` and ``serve`` begin with: servers, a platform with a history, the package installed; and their end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import click

from demo import history, scratch
from demo.host import OF_THE_PLATFORM, Workers, migrate, refuse_interruption, set_up_django, workers
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
    """A platform with a history of ``runs`` runs, on which the package is not migrated yet; its worker is starting.

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
        with step("Creating the platform's tables"):
            set_up_django(environment)
            migrate(*OF_THE_PLATFORM)
        celery = stack.enter_context(workers(directory / "celery"))
        every = shapes(runs)
        with step("Loading history, in bulk") as came_of_it:
            came_of_it(f"{counted(history.load(every), 'run')} in {counted(len(every), 'workspace')}")
        with step("VACUUM ANALYZE, as autovacuum does on a live server"):
            history.vacuum()
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


def install(celery: Workers) -> None:
    """What an operator does on the platform: migrate, which puts triggers on its tables, and start worker and beat."""
    from workflows_tasks.capture import tables
    from workflows_tasks.host import host

    with step("manage.py migrate") as came_of_it:
        migrate()
        came_of_it(f"triggers on {', '.join(table.name for table in tables.tables(host()))}")
    with step("Starting the Celery worker and beat"):
        celery.start()


def fill(every: Sequence[WorkspaceShape]) -> None:
    """Fill the table from history by a backfill on the worker, and show how far it is; runs are written meanwhile.

    Raises:
        RuntimeError: it did not succeed, or not in time.
    """
    from demo.executions import Executions, executing

    with executing(Executions(every), SAVES_PER_S):
        _backfill(sum(shape.runs for shape in every) // FILL_PARTS)
    with step("VACUUM ANALYZE of what is there now"):
        history.vacuum()


def _backfill(chunk_size: int) -> None:
    from backfill import control
    from backfill.states import BackfillStatus

    started = time.monotonic()
    number = control.start(chunk_size=chunk_size, actor="the demo").pk
    with bar("A backfill: planned, filled and verified by the worker", 200) as progress:
        while not (now := control.status(number)).backfill.has_ended:
            if time.monotonic() - started > FILLED_WITHIN_S:
                raise RuntimeError(f"After {FILLED_WITHIN_S:.0f} s {now.backfill}: {now.reasons}")
            progress.update(int(now.fill.percent + now.verify.percent) - progress.pos)
            time.sleep(0.1)
        progress.update(200 - progress.pos)
    if now.backfill.status != BackfillStatus.SUCCEEDED:
        raise RuntimeError(f"{now.backfill}: {now.backfill.error} {now.failures}")
    line(
        f"{counted(now.fill.planned, 'run')} in {counted(sum((now.fill.chunks or {}).values()), 'chunk')}: "
        f"{counted(now.fill.rows, 'row')} written, all verified, in {time.monotonic() - started:.1f} s"
    )


def _disconnect() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()
