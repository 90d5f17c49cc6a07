"""What ``once`` and ``serve`` begin with: servers, schema, history, the table. And how they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from demo import history, scratch
from demo.host import Workers, migrate, refuse_interruption, set_up_django, workers
from demo.narration import bar, counted, heading, line, step
from demo.servers import servers
from demo.shape import WorkspaceShape, shapes

FILL_PARTS = 8
"""Ranges of workspaces that history is filled in; each is one statement."""


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


def fill() -> None:
    """Fill the table from history, a range of workspaces at a time."""
    from workflows_tasks import announce, projection
    from workflows_tasks.sql.fragments import Workspaces

    ranges = history.workspace_ranges(FILL_PARTS)
    started, rows, stale = time.monotonic(), 0, []
    with bar(f"Filling the table, {len(ranges)} ranges of workspaces", len(ranges)) as progress:
        for first, last in ranges:
            written, found_stale = projection.fill(Workspaces(first, last))
            rows += written
            stale += found_stale
            progress.update(1)
    announce([row.run for row in stale])
    line(
        f"{counted(rows, 'row')} written in {time.monotonic() - started:.1f} s; "
        f"{counted(len(stale), 'row')} changed meanwhile and left to a flush"
    )


def _disconnect() -> None:
    from django.conf import settings
    from django.db import connections

    if settings.configured:
        connections.close_all()
