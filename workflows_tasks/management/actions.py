"""What the commands share: actions with arguments, ``--json``, bounded output, and errors that name the fix."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import click
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from workflows_tasks.errors import RecentWorkflowsError
from workflows_tasks.monitoring.health import database_problem
from workflows_tasks.monitoring.telemetry import printable

SHOWN: Final = 20
"""Rows that are printed unless all are asked for."""

AMONG: Final = "only workspaces with keys from A to B, either may be left out; or with one key"
"""What ``--workspaces`` takes."""

INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141
"""Exit status of a program that a closed pipe ended, as a shell has it."""


class ActionCommand(BaseCommand):
    """A command whose first argument names the method that carries it out: ``status`` is ``_status(**options)``."""

    def add_action(self, actions: Any, name: str, help_text: str, *, has_json: bool = True) -> argparse.ArgumentParser:
        own = BaseCommand().create_parser("", "", add_help=False)  # Django's options, which may follow the action too
        for option in own._actions:
            option.default = option.help = argparse.SUPPRESS  # what was given before it stays
        action: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=help_text, parents=[own])
        if has_json:
            action.add_argument("--json", action="store_true", help="for machines")
        return action

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            try:
                getattr(self, f"_{action}")(**options)
            finally:
                self.stdout.flush()  # here, where a closed pipe can still be caught
        except RecentWorkflowsError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(database_problem(error)) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            _leave_pipe()

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2))

    def print_table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print columns of cells; None is a dash."""
        lines = [tuple("-" if cell is None else printable(str(cell)) for cell in row) for row in rows]
        widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
        for number, line in enumerate([tuple(columns), *lines]):
            text = "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write(self.style.MIGRATE_HEADING(text) if number == 0 else text)

    def print_wrong(self, line: str) -> None:
        self.stdout.write(self.style.ERROR(printable(line)))

    def print_more(self, total: int, shown: int) -> None:
        """Say what a bounded table left out."""
        if total > shown:
            self.stdout.write(f"… and {total - shown:,} more; --all prints all")

    @contextmanager
    def bar(self, length: int, *, quiet: bool, label: str) -> Iterator[Callable[[int], None]]:
        """A progress bar with rate and ETA on a terminal; nothing where output is read by a machine."""
        if quiet or not sys.stderr.isatty():
            yield lambda _: None
            return
        with click.progressbar(length=length, label=label, show_pos=True, file=sys.stderr) as progress:
            yield progress.update


def _leave_pipe() -> None:
    """Nobody reads any more. Discard what is still buffered, or Python would complain when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(CLOSED_PIPE)
