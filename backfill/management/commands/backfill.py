"""``manage.py backfill``: plan a backfill, start it, look at it, steer it."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import click
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import is_aware, make_aware, make_naive

from backfill import advice, runner, telling
from backfill.models import Run
from backfill.progress import Progress
from backfill.states import RunStatus
from workflows_tasks import conf, operations, truth
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.management.actions import ActionCommand

FAILED, WAITS_FOR_SOMEBODY, INTERRUPTED = 1, 3, 130

EXIT_STATUS: Final[Mapping[str, int]] = {
    RunStatus.FAILED: FAILED,
    RunStatus.CANCELLED: FAILED,
    RunStatus.PAUSING: WAITS_FOR_SOMEBODY,
    RunStatus.PAUSED: WAITS_FOR_SOMEBODY,
}
"""0 for every other status."""

REDRAWN_EVERY_S: Final = 0.5
TOLD_EVERY_S: Final = 5.0


class Command(ActionCommand):
    help = "Plan, start, watch and steer the backfill of history into the table of recent workflows."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        plan = self.add_action(actions, "plan", "Count the runs and show the chunks; writes nothing.")
        start = self.add_action(actions, "start", "Enqueue a backfill; workers plan it, fill, and verify.")
        start.add_argument("--dry-run", action="store_true", help="only plan, as the action of that name")
        start.add_argument("--watch", action="store_true", help="then watch it; Ctrl-C leaves it going")
        for each in (plan, start):
            _add_range(each)
            each.add_argument("--since", metavar="TIME", help="only runs used then or later (ISO date or time)")
            each.add_argument("--chunk-size", type=int, metavar="RUNS", help="runs of a chunk (BACKFILL_CHUNK)")
            each.add_argument("--parallel", type=int, metavar="N", help="chunks at a time (BACKFILL_PARALLEL)")
        status = self.add_action(actions, "status", "How it is. Exit status: 0 well, 1 failed or cancelled, 3 paused.")
        status.add_argument("--watch", action="store_true", help="until it ends; Ctrl-C leaves it going")
        for name, help_text in (
            ("pause", "No new transaction begins; waits until nobody works on it."),
            ("resume", "Go on where it was paused."),
            ("cancel", "Give it up; what was filled stays. Waits until nobody works on it."),
            ("retry", "Take up the chunks that failed once more."),
        ):
            _add_run(self.add_action(actions, name, help_text))
        _add_run(status)
        parallel = self.add_action(actions, "parallel", "Change how many chunks are worked on, also while it runs.")
        parallel.add_argument("count", type=int, metavar="N", help="chunks at a time")
        _add_run(parallel)
        verify = self.add_action(actions, "verify", "Compare table and runs here and now. Exit status 1: they differ.")
        _add_range(verify)
        verify.add_argument("--repair", action="store_true", help="put right what differs, through the flush")

    def _plan(self, **options: Any) -> None:
        found = runner.plan(**_asked(options))
        advised = advice.advise()
        if options["json"]:
            self.print_json({**found.as_json(), "advice": advised.as_json()})
        else:
            self._print(telling.of_plan(found, advised))

    def _start(self, **options: Any) -> None:
        if options["dry_run"]:
            self._plan(**options)
            return
        run = runner.start(**_asked(options), actor=_actor())
        if options["watch"]:
            self._watch(run.pk, as_json=options["json"])
        elif options["json"]:
            self.print_json(runner.status(run.pk).as_json())
        else:
            self.stdout.write(f"backfill {run.pk} is enqueued. Watch it: manage.py backfill status {run.pk} --watch")

    def _status(self, **options: Any) -> None:
        run = runner.get(options["run"])
        if options["watch"]:
            self._watch(run.pk, as_json=options["json"])
        else:
            self._show(runner.status(run.pk), as_json=options["json"])
            self._exit_as(run)

    def _pause(self, **options: Any) -> None:
        self._steer(runner.pause, until=RunStatus.PAUSED, **options)

    def _cancel(self, **options: Any) -> None:
        self._steer(runner.cancel, until=RunStatus.CANCELLED, **options)

    def _resume(self, **options: Any) -> None:
        self._steer(runner.resume, **options)

    def _retry(self, **options: Any) -> None:
        self._steer(runner.retry, **options)

    def _parallel(self, **options: Any) -> None:
        run = runner.set_parallel(runner.get(options["run"]).pk, options["count"], actor=_actor())
        self._show(runner.status(run.pk), as_json=options["json"])

    def _steer(self, change: Callable[..., Run], *, until: str | None = None, **options: Any) -> None:
        """Change a run, and wait until it is as it was asked to be: for no longer than a lost worker has its lease."""
        run = change(runner.get(options["run"]).pk, actor=_actor())
        until_s = time.monotonic() + conf.settings().backfill_lease_s
        while until and run.status != until and time.monotonic() < until_s:
            time.sleep(REDRAWN_EVERY_S / 5)
            run = runner.get(run.pk)
        self._show(runner.status(run.pk), as_json=options["json"])

    def _verify(self, **options: Any) -> None:
        workspaces = operations.workspaces(options["workspaces"])
        found: list[dict[str, Any]] = []
        length = 0 if options["json"] else truth.runs_of(workspaces)
        with click.progressbar(
            length=length, label="verifying", show_pos=True, file=sys.stderr, hidden=options["json"]
        ) as bar:
            for checked in runner.verify(workspaces):
                found += [row.as_json() for row in checked.drift]
                if options["repair"]:
                    operations.repair_now(checked.drift)
                bar.update(checked.runs)
        if options["json"]:
            self.print_json({"drift": found, "repaired": options["repair"]})
        else:
            self._print_drift(found, repaired=options["repair"])
        if found:
            sys.exit(FAILED)

    def _print_drift(self, found: list[dict[str, Any]], *, repaired: bool) -> None:
        columns = ("verdict", "workspace", "uid", "workflow", "stored_used_at", "stored_run", "used_at", "run")
        if found:
            lines = [tuple("-" if row[c] is None else str(row[c]) for c in columns) for row in found]
            self._print(telling.table(columns, lines))
        ending = "repaired" if repaired else "run again with --repair to put them right"
        self.stdout.write(f"{len(found):,} differences; {ending}" if found else "table and runs agree")

    def _watch(self, run_id: int, *, as_json: bool) -> None:
        """Show a run until it ends or is paused, and exit as it did. Ctrl-C ends only the watching."""
        try:
            shown = _Redrawn(self) if self.stdout.isatty() and not as_json else None
            told_s, line = 0.0, ""
            while True:
                progress = runner.status(run_id)
                if shown is not None:
                    shown.draw(list(telling.of_progress(progress)))
                elif not as_json and (time.monotonic() - told_s >= TOLD_EVERY_S):
                    told_s, line = time.monotonic(), self._tell_change(line, progress)
                if not progress.run.is_open or progress.run.status == RunStatus.PAUSED:
                    break
                time.sleep(REDRAWN_EVERY_S)
            if shown is None:
                self._show(progress, as_json=as_json)
            self._exit_as(progress.run)
        except KeyboardInterrupt:
            self.stderr.write(
                f"\nbackfill {run_id} goes on. Come back: manage.py backfill status {run_id} --watch; "
                f"stop it: manage.py backfill pause {run_id}"
            )
            sys.exit(INTERRUPTED)

    def _tell_change(self, before: str, progress: Progress) -> str:
        line = telling.in_one_line(progress)
        if line != before:
            self.stdout.write(line)
            self.stdout.flush()
        return line

    def _exit_as(self, run: Run) -> None:
        if run.status in EXIT_STATUS:
            sys.exit(EXIT_STATUS[run.status])

    def _show(self, progress: Progress, *, as_json: bool) -> None:
        if as_json:
            self.print_json(progress.as_json())
        else:
            self._print(telling.of_progress(progress))

    def _print(self, lines: Any) -> None:
        for line in lines:
            self.stdout.write(line)


class _Redrawn:
    """Lines on a terminal that take the place of those before them."""

    def __init__(self, command: BaseCommand) -> None:
        self._out = command.stdout
        self._height = 0

    def draw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns
        up = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        self._out.write(up + "\n".join(line[: width - 1] for line in lines))
        self._out.flush()
        self._height = len(lines)


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspaces", metavar="A-B", help="only workspaces with keys from A to B; either may be left out"
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", type=int, help="its number; the open one, or else the newest, if left out")


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``runner.plan`` and ``runner.start``.

    Raises:
        InvalidArgument: a range or a time that is none.
    """
    return {
        "workspaces": operations.workspaces(options["workspaces"]),
        "since": None if options["since"] is None else _moment(options["since"]),
        "chunk_size": options["chunk_size"],
        "parallel": options["parallel"],
    }


def _moment(text: str) -> datetime:
    """An ISO date or time as the host stores them; without a zone, in the host's."""
    try:
        moment = parse_datetime(text)
        day = None if moment else parse_date(text)
    except ValueError as error:
        raise InvalidArgument(f"--since {text!r}: {error}.") from error
    if moment is None and day is not None:
        moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # the host's zone is given to it below
    if moment is None:
        raise InvalidArgument(f"--since {text!r} is no time; write 2026-01-31 or 2026-01-31T12:00+00:00.")
    if settings.USE_TZ:
        return moment if is_aware(moment) else make_aware(moment)
    return make_naive(moment) if is_aware(moment) else moment


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as somebody whom nobody knows
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
