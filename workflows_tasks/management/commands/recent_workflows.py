"""``manage.py recent_workflows``: look at the pipeline, and push it by hand."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from django.core.management.base import CommandError

from workflows_tasks import history, reads
from workflows_tasks.capture import catalogue, installation, tables, triggers, watch
from workflows_tasks.capture.watch import Problem
from workflows_tasks.comparison import audit
from workflows_tasks.comparison.compare import AGREES
from workflows_tasks.comparison.verified import STATES, WRONG, Verified
from workflows_tasks.comparison.verify import Part
from workflows_tasks.host import host
from workflows_tasks.management.actions import AMONG, SHOWN, ActionCommand
from workflows_tasks.models import CHANGES, Shard
from workflows_tasks.monitoring import health, telemetry
from workflows_tasks.monitoring.status import Status, age, ago, counted, status
from workflows_tasks.monitoring.telemetry import printable
from workflows_tasks.projection import backlog, changes, flush
from workflows_tasks.projection.ranges import Range
from workflows_tasks.sql import quoted, rows

COLUMNS: Final = ("workspace", "uid", "workflow", "state", "kind", "stored_used_at", "stored_run", "used_at", "run")
VERIFY: Final = (
    "Compare the table with the runs. Exit status 0: they agree; 1: they differ, or a part could not be compared; "
    "2: they agree, except what waits, is in quarantine, or is of history that is not filled."
)
TOLD_EVERY_S: Final = 3.0
"""Seconds between two lines about what ``flush`` waits for."""

WISHES: Final = {
    "install": "create what is missing or outdated",
    "off": "capture nothing from now on; locks no table",
    "remove": "drop triggers and functions; the log stays",
    "sql": "print the statements of an installation",
}


class Command(ActionCommand):
    help = "Look at recent workflows and their pipeline, and push it by hand."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        self.add_action(actions, "status", "What waits in each shard, rows, lag, counters; and what health says.")
        self.add_action(actions, "health", "Is everything all right, and if not, why? Exit status 1 at a FAIL.")
        push = self.add_action(actions, "flush", "Flush all that waits now, without a worker.")
        push.add_argument("--retry", action="store_true", help="also the changes in quarantine")
        verify = self.add_action(actions, "verify", VERIFY)
        verify.add_argument("--workspaces", metavar="A..B", help=AMONG)
        verify.add_argument("--repair", action="store_true", help="put right what differs, through a flush")
        explain = self.add_action(
            actions, "explain", "A page, what differs first: each row beside the truth. Exit status as of verify."
        )
        explain.add_argument("workspace", help="the workspace's key")
        explain.add_argument("user", nargs="?", help="the user's key; the whole workspace if left out")
        for each in (verify, explain):
            each.add_argument("--all", action="store_true", dest="everything", help=f"more rows than the first {SHOWN}")
        capture = self.add_action(actions, "triggers", "What captures writes. Exit status 1 if something is wrong.")
        wishes = capture.add_mutually_exclusive_group()
        for name, help_text in WISHES.items():
            wishes.add_argument(f"--{name}", dest="wish", action="store_const", const=name, help=help_text)
        help_text = "All metrics in Prometheus' text format (needs the prometheus extra)."
        self.add_action(actions, "metrics", help_text, has_json=False)

    def _status(self, **options: Any) -> None:
        now = status()
        if options["json"]:
            self.print_json({**now.as_json(), "findings": [finding.as_json() for finding in health.look()]})
            return
        self.print_table(
            ("shard", "pending", "scopes", "oldest", "quarantined", "last flush"),
            [
                (shard.shard, shard.pending, shard.scopes, age(shard.oldest_s), shard.quarantined, ago(shard.flushed_s))
                for shard in now.shards
            ],
        )
        self._print_figures(now)
        self._print_findings(health.look())
        for refused in now.quarantined:
            what = f"run {refused.run}" if refused.run is not None else f"scope {refused.scope}"
            where = f"{what} of workspace {refused.workspace}, tried {counted(refused.tries, 'time')}"
            self.print_wrong(f"quarantined: {where}: {refused.error}")
        if now.in_quarantine > len(now.quarantined):
            self.stdout.write(f"… and {now.in_quarantine - len(now.quarantined):,} more in quarantine")

    def _print_figures(self, now: Status) -> None:
        self.stdout.write(f"\nrows: {f'about {now.rows:,}' if now.rows else 'not estimated yet'}")
        visible = f"p50 {age(now.visible_s(0.50))}, p99 {age(now.visible_s(0.99))} so far"
        if now.visible_is_past:
            visible = f"the oldest change has waited {age(now.oldest_s)}, longer than 99 % of all before it"
        self.stdout.write(f"commit to visible: {visible}")
        numbers = [f"{name} {now.counters[name]:,.0f}" for name in telemetry.COUNTERS if now.counters.get(name)]
        self.stdout.write(f"so far: {', '.join(numbers) or 'nothing'}")

    def _health(self, **options: Any) -> None:
        findings = list(health.look())
        if options["json"]:
            self.print_json([finding.as_json() for finding in findings])
        else:
            self._print_findings(findings)
        if any(finding.state == health.FAIL for finding in findings):
            sys.exit(1)

    def _print_findings(self, findings: Iterable[health.Finding]) -> None:
        style: dict[str, Callable[[str], str]] = {health.WARN: self.style.WARNING, health.FAIL: self.style.ERROR}
        for finding in findings:
            state = style.get(finding.state, str)(finding.state.ljust(4))
            self.stdout.write(f"{state}  {finding.part}: {finding.why}")

    def _flush(self, **options: Any) -> None:
        retried = changes.retry_quarantined() if options["retry"] else 0
        waiting = sum(shard.pending for shard in backlog.status())
        with self.bar(waiting, quiet=options["json"], label="flushing") as progress:
            done = flush.flush_all(progress, self._who_holds(quiet=options["json"]))
        if options["json"]:
            self.print_json({"changes": done.changes, "rows": done.rows, "retried": retried})
        elif not waiting:
            self.stdout.write("nothing is pending")
        else:
            again = f" ({retried:,} from quarantine)" if retried else ""
            self.stdout.write(
                f"flushed {counted(done.changes, 'change')}{again}; {counted(done.rows, 'row')} written; "
                "nothing from before is pending"
            )

    def _who_holds(self, *, quiet: bool) -> Callable[[], None]:
        """A function that tells, once in a while, which sessions hold the shards that are left."""
        told_s = time.monotonic()

        def tell() -> None:
            nonlocal told_s
            if not quiet and time.monotonic() - told_s > TOLD_EVERY_S:
                told_s = time.monotonic()
                holders = catalogue.sessions_in(quoted(Shard._meta.db_table), lock_rows=True)
                self.stderr.write(f"waits for whoever holds a shard: {holders or 'other flushes'}")

        return tell

    def _verify(self, **options: Any) -> None:
        among, repair = history.parse_range(options["workspaces"]), options["repair"]
        now = status()  # if one of our tables is missing, this fails once, and not once for each part
        seen = Verified(None if options["everything"] else SHOWN, repaired=repair)
        length = history.runs_of(among) if options["workspaces"] else history.estimated_runs()
        with self.bar(length, quiet=options["json"], label="verifying") as progress:
            for part in history.parts(among):
                seen.add(part)
                if repair:
                    history.repair_now(part.differences)
                progress(part.runs)
        if options["json"]:
            self.print_json(seen.as_json())
        else:
            for sentence in seen.sentences():
                self.stdout.write(sentence)
            failures = seen.failures if options["everything"] else seen.failures[:SHOWN]
            for failure in failures:
                self.print_wrong(f"not compared: {failure}")
            self.print_more(len(seen.failures), len(failures))
            self._print_differences(seen, COLUMNS)
        if now.audit_findings and not options["workspaces"] and seen.exit_status != WRONG:
            audit.forget_findings()
        if seen.exit_status:
            sys.exit(seen.exit_status)

    def _explain(self, **options: Any) -> None:
        workspace = history.workspace_text(options["workspace"])
        ((uid,),) = rows("SELECT " + reads.uid_sql(reads.page_of(options["workspace"], options["user"])[1]))
        page = history.compare(Range(first=workspace, last=workspace), uid=uid, all_rows=True)
        seen = Verified(None if options["everything"] else SHOWN)
        seen.add(Part(None, 0, page, ""))
        if options["json"]:
            counts = {state: seen.counts[state] for state in STATES}
            self.print_json({**counts, "rows": [each.as_json() for each in seen.first]})
        elif not page:
            self.stdout.write("no workflow was used there, and none is stored")
        else:
            states = ", ".join(_count(seen.counts[state], state) for state in STATES if seen.counts[state])
            self.stdout.write(f"{counted(len(page), 'workflow')}: {states}")
            self._print_differences(seen, COLUMNS[2:])
        if seen.exit_status:
            sys.exit(seen.exit_status)

    def _print_differences(self, seen: Verified, columns: Sequence[str]) -> None:
        if seen.first:
            lines = [[each.as_json()[column] for column in columns] for each in seen.first]
            self.print_table([column.replace("_", " ") for column in columns], lines)
            self.print_more(seen.counts.total(), len(seen.first))

    def _triggers(self, **options: Any) -> None:
        wish, quiet = options["wish"], options["json"]
        if wish == "sql":
            statements = installation.statements()
            self.print_json(statements) if quiet else self.stdout.write(";\n\n".join([*statements, ""]))
            return
        problems: list[Problem] = []
        if wish == "off":
            installation.turn_off()
        elif wish:
            work = installation.install if wish == "install" else installation.remove
            problems = work((lambda _: None) if quiet else self._tell)
        is_off = wish in {"off", "remove"}
        if not is_off:  # of a table that could not be locked, only the problem that says who held it
            named = {problem.table for problem in problems}
            now = watch.problems() + installation.problems_of_pages()
            problems += [problem for problem in now if problem.table not in named]
        if quiet:
            self.print_json({"problems": [str(problem) for problem in problems]})
        elif is_off:
            self.stdout.write(f"nothing is captured any more; to turn it on again, run: {triggers.COMMAND}")
        else:
            self._print_tables({problem.table for problem in problems})
        for problem in [] if quiet else problems:
            self.print_wrong(str(problem))
        if problems:
            sys.exit(1)

    def _print_tables(self, wrong: set[str]) -> None:
        """Each table of the host's that is watched. Without the log none is captured."""
        lines = []
        for table in tables.tables(host()):
            parts = [*(["runs"] if table.run else []), *(f"scope {scope.lookup}" for scope in table.scopes)]
            lines.append((table.name, ", ".join(parts), "WRONG" if {table.name, CHANGES} & wrong else "ok"))
        self.print_table(("table", "captures", "state"), lines)

    def _tell(self, line: str) -> None:
        self.stdout.write(printable(line))
        self.stdout.flush()  # who waits for a lock must be told at once who holds it

    def _metrics(self, **_: Any) -> None:
        try:
            from workflows_tasks.monitoring import prometheus
        except ImportError as error:
            raise CommandError("Needs the extra: pip install 'django-recent-workflows[prometheus]'.") from error
        self.stdout.write(prometheus.exposition())


def _count(count: int, state: str) -> str:
    return f"{count:,} {'agree' if state == AGREES and count > 1 else state}"
