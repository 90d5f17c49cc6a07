"""``manage.py recent_workflows``: look at the pipeline, and push it by hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from workflows_tasks import health, operations, repair, truth
from workflows_tasks.events import printable
from workflows_tasks.management.actions import ActionCommand

OLDEST: Final = "how long an id may wait; twice CLAIM_LEASE_S + RESCUE_PERIOD_S by default"


class Command(ActionCommand):
    help = "Look at recent workflows and their pipeline, and push it by hand."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        self.add_action(actions, "status", "What is pending, claimed and set aside; rows, lag and counters.")
        drain = self.add_action(actions, "drain", "Flush all that is pending now, without waiting for a worker.")
        drain.add_argument("--retry", action="store_true", help="also take up the runs that were set aside")
        explain = self.add_action(actions, "explain", "One home page: each stored row beside the truth.")
        explain.add_argument("workspace", help="the workspace's key")
        explain.add_argument("user", nargs="?", help="the user's key; the whole workspace if left out")
        self.add_action(actions, "sweep", "Look for lost announcements now; what is found is announced.")
        verify = self.add_action(actions, "verify", "Compare the table with the runs. Exit status 1 if they differ.")
        verify.add_argument(
            "--workspaces",
            metavar="A-B",
            help="only workspaces with keys from A to B, either may be left out; A..B where keys have dashes",
        )
        verify.add_argument("--repair", action="store_true", help="put right what differs, through the flush")
        well = self.add_action(
            actions, "health", "Database, Redis, and whether what waits is flushed. Exit status 1 if not."
        )
        well.add_argument("--oldest", metavar="SECONDS", type=float, dest="oldest_s", help=OLDEST)
        actions.add_parser("metrics", help="All metrics in Prometheus' text format (needs the prometheus extra).")

    def _status(self, **options: Any) -> None:
        status = operations.status()
        found = status.as_json()
        if options["json"]:
            self.print_json(found)
            return
        lines: list[tuple[str, ...]] = [
            ("shard", "pending", "oldest", "message", "claims", "oldest", "aside", "flushes", "last flush")
        ]
        lines += [
            (
                str(shard.shard),
                f"{shard.pending:,}",
                _age(shard.oldest_pending_s),
                "sent" if shard.scheduled else "-",
                str(shard.claims),
                _age(shard.oldest_claim_s),
                str(shard.aside),
                f"{shard.stats.get('flushes', 0):,.0f}",
                _ago(shard.last_flush_s),
            )
            for shard in status.shards
        ]
        self._print_table(lines)
        about = "about " if status.rows_are_estimated else ""
        self.stdout.write(f"\nrows: {about}{status.rows:,}")
        self.stdout.write(f"commit to visible: p50 {_age(status.visible_p50_s)}, p99 {_age(status.visible_p99_s)}")
        counters = ", ".join(f"{name} {value:,.0f}" for name, value in found["counters"].items() if value)
        self.stdout.write(f"so far: {counters or 'nothing'}")
        for shard, run, why in operations.aside():
            self.stdout.write(self.style.ERROR(f"set aside: run {printable(run)} of shard {shard}: {printable(why)}"))

    def _drain(self, **options: Any) -> None:
        retried = operations.retry_aside() if options["retry"] else 0
        with self._bar(operations.pending(), quiet=options["json"]) as progress:
            done = operations.drain(progress)
        if options["json"]:
            self.print_json({"runs": done.runs, "rows": done.rows, "retried": retried})
        else:
            again = f", {retried:,} of them set aside before" if retried else ""
            self.stdout.write(f"flushed {done.runs:,} runs{again}; {done.rows:,} rows changed; nothing is pending")

    def _explain(self, **options: Any) -> None:
        rows = [explained.as_json() for explained in operations.explain(options["workspace"], options["user"])]
        if options["json"]:
            self.print_json(rows)
        elif not rows:
            self.stdout.write("no workflow was used there, and none is stored")
        else:
            columns = ("workflow", "verdict", "stored_used_at", "stored_run", "used_at", "run", "waiting")
            lines = [tuple(str(row[column] or "-") for column in columns) for row in rows]
            self._print_table([tuple(column.replace("_", " ") for column in columns), *lines])
        if any(row["verdict"] != "agrees" and not row["waiting"] for row in rows):
            sys.exit(1)

    def _sweep(self, **options: Any) -> None:
        healed = repair.sweep()
        if options["json"]:
            self.print_json({"healed": healed})
        else:
            self.stdout.write(f"{healed:,} runs had been lost and are announced now")

    def _verify(self, **options: Any) -> None:
        workspaces = operations.workspaces(options["workspaces"])
        found: list[dict[str, Any]] = []
        with self._bar(truth.runs_of(workspaces), quiet=options["json"], label="verifying") as progress:
            for checked in repair.check(workspaces):
                found += [row.as_json() for row in checked.drift]
                if options["repair"]:
                    operations.repair_now(checked.drift)
                progress(checked.runs)
        if options["json"]:
            self.print_json({"drift": found, "repaired": options["repair"]})
        else:
            self._print_drift(found, repaired=options["repair"])
        if found:
            sys.exit(1)

    def _print_drift(self, found: list[dict[str, Any]], *, repaired: bool) -> None:
        if found:
            columns = ("verdict", "workspace", "uid", "workflow", "stored_used_at", "stored_run", "used_at", "run")
            self._print_table(
                [columns, *(tuple(str(row[c]) if row[c] is not None else "-" for c in columns) for row in found)]
            )
        ending = "repaired" if repaired else "run again with --repair to put them right"
        self.stdout.write(f"{len(found):,} differences; {ending}" if found else "table and runs agree")

    def _health(self, **options: Any) -> None:
        found = list(health.look(options["oldest_s"]))
        if options["json"]:
            self.print_json([finding.as_json() for finding in found])
        else:
            for finding in found:
                state = "well    " if finding.well else self.style.ERROR("NOT WELL")
                self.stdout.write(f"{state}  {finding.part}: {finding.seen}")
        if not all(finding.well for finding in found):
            sys.exit(1)

    def _metrics(self, **_: Any) -> None:
        from workflows_tasks import prometheus

        self.stdout.write(prometheus.exposition())

    def _print_table(self, lines: list[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines):
            text = "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write(self.style.MIGRATE_HEADING(text) if number == 0 else text)

    @contextmanager
    def _bar(self, length: int, *, quiet: bool, label: str = "flushing") -> Iterator[Callable[[int], None]]:
        """A progress bar with rate and ETA on a terminal; nothing where output is read by a machine."""
        if quiet:
            yield lambda _: None
            return
        with click.progressbar(length=length, label=label, show_pos=True, file=sys.stderr) as bar:
            yield bar.update


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.1f} s"


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:,.0f} s ago"
