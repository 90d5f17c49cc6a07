"""``manage.py backfill``: plan a backfill, start it, look at it, steer it."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partialmethod
from typing import Any, Final

from backfill import console, control, models, worker
from backfill.models import Backfill
from backfill.states import BackfillStatus
from workflows_tasks import conf, history
from workflows_tasks.management.actions import AMONG, ActionCommand

EXIT_STATUS: Final[Mapping[str, int]] = {
    BackfillStatus.FAILED: 1,
    BackfillStatus.CANCELLED: 1,
    BackfillStatus.PAUSED: 3,
}
"""0 for every other status."""


class Command(ActionCommand):
    help = "Plan, start, watch and steer the backfill of history into the table of recent workflows."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        plan = self.add_action(actions, "plan", "Count the runs and show the chunks; writes nothing.")
        start = self.add_action(actions, "start", "Enqueue a backfill; workers plan it, fill, and verify.")
        for each in (plan, start):
            each.add_argument("--workspaces", metavar="A..B", help=AMONG)
            help_text = f"runs of a chunk ({control.CHUNK_SIZE:,})"
            each.add_argument("--chunk-size", type=int, default=control.CHUNK_SIZE, metavar="RUNS", help=help_text)
        help_text = f"chunks at a time ({control.CONCURRENCY})"
        start.add_argument("--concurrency", type=int, default=control.CONCURRENCY, metavar="N", help=help_text)
        status = self.add_action(actions, "status", "How it is. Exit status: 0 ok, 1 failed or cancelled, 3 paused.")
        _add_number(status)
        for each in (start, status):
            each.add_argument("--wait", action="store_true", help="until it has ended or is paused")
        for name, help_text in (
            ("pause", "No new transaction begins; waits until nobody works on it."),
            ("resume", "Go on where it was, and try again what was refused."),
            ("cancel", "Give it up; what was filled stays. Waits until that is looked over."),
        ):
            _add_number(self.add_action(actions, name, help_text))
        concurrency = self.add_action(actions, "concurrency", "Change how many chunks are worked on at a time.")
        concurrency.add_argument("count", type=int, metavar="N", help="chunks at a time")
        _add_number(concurrency)

    def _plan(self, **options: Any) -> None:
        plan = control.plan(history.parse_range(options["workspaces"]), chunk_size=options["chunk_size"])
        if options["json"]:
            self.print_json(plan.as_json())
        else:
            self._print(console.of_plan(plan))

    def _start(self, **options: Any) -> None:
        backfill = control.start(
            history.parse_range(options["workspaces"]),
            chunk_size=options["chunk_size"],
            concurrency=options["concurrency"],
            actor=_actor(),
        )
        if options["wait"]:
            self._status(**{**options, "number": backfill.pk})
        elif options["json"]:
            self._show(backfill, **options)
        else:
            status = f"python manage.py backfill status {backfill.pk}"
            self.stdout.write(f"backfill {backfill.pk} is enqueued. Watch it: watch {status}")

    def _status(self, **options: Any) -> None:
        backfill = control.get(options["number"])
        if options["wait"]:
            backfill = self._wait_for(backfill, quiet=options["json"])
        self._show(backfill, **options)
        if backfill.status in EXIT_STATUS:
            sys.exit(EXIT_STATUS[backfill.status])

    def _wait_for(self, backfill: Backfill, *, quiet: bool) -> Backfill:
        """Wait until it has ended or is paused. Print each change, but not each new figure of a reason."""
        before = ("", False)
        while not backfill.has_ended and backfill.status != BackfillStatus.PAUSED:
            line, why = console.in_one_line(control.status(backfill.pk))
            if (line, bool(why)) != before and not quiet:
                self._print([line + why])
                self.stdout.flush()
            before = line, bool(why)
            time.sleep(min(conf.settings().tick_period_s, 1.0))
            backfill = control.get(backfill.pk)
        return backfill

    def _concurrency(self, **options: Any) -> None:
        backfill = control.get(options["number"])
        self._show(control.set_concurrency(backfill.pk, options["count"], actor=_actor()), **options)

    def _steer(self, change: Callable[..., Backfill], **options: Any) -> None:
        """Change a backfill, and wait until its workers have stopped, or a lost one's lease has expired.

        If no worker is there, this looks over the open chunks of a cancelled backfill.
        """
        backfill = change(control.get(options["number"]).pk, actor=_actor())
        until_s = time.monotonic() + conf.settings().backfill_lease_s
        while _is_stopping(backfill) and time.monotonic() < until_s:
            if backfill.status == BackfillStatus.CANCELLING:
                worker.work(backfill.pk)
            time.sleep(0.1)
            backfill = control.get(backfill.pk)
        self._show(backfill, **options)

    _pause = partialmethod(_steer, control.pause)
    _cancel = partialmethod(_steer, control.cancel)
    _resume = partialmethod(_steer, control.resume)

    def _show(self, backfill: Backfill, **options: Any) -> None:
        progress = control.status(backfill.pk)
        if options["json"]:
            self.print_json(progress.as_json())
        else:
            self._print(console.of_progress(progress))

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)


def _is_stopping(backfill: Backfill) -> bool:
    is_paused = backfill.status == BackfillStatus.PAUSED
    return backfill.status == BackfillStatus.CANCELLING or (is_paused and models.active(backfill).exists())


def _add_number(parser: argparse.ArgumentParser) -> None:
    help_text = "its number; if left out, the oldest that has not ended, or else the newest"
    parser.add_argument("number", nargs="?", type=int, metavar="ID", help=help_text)


def _actor() -> str:
    return f"{os.environ.get('USER') or f'uid {os.getuid()}'}@{socket.gethostname()}"
