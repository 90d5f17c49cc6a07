"""What sweep and audit cost on a large table of runs: ``python -m tests.exactness.plans [--runs 1000000]``.

Prints ``EXPLAIN (ANALYZE, BUFFERS)`` of each statement they make. Exit status 1 if one reads all of the runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

EXPLAIN: Final = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


class Plan(NamedTuple):
    """A statement and how the server answers it."""

    statement: str
    root: dict[str, Any]

    def scans(self, table: str) -> bool:
        """Whether it reads the whole of a table."""
        return table in {node.get("Relation Name") for node in nodes(self.root) if node["Node Type"] == "Seq Scan"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def plans(act: Callable[[], Any], table: str, explain: str = "EXPLAIN (FORMAT JSON) ") -> list[Plan]:
    """The plans of those statements that ``act`` makes about a table."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        act()
    asked = [query["sql"] for query in captured if query["sql"].lstrip().startswith(("SELECT", "WITH"))]
    asked = [sql for sql in asked if table in sql]
    assert asked, "no statement to look at"
    found = []
    with connection.cursor() as cursor:
        for sql in asked:
            cursor.execute(explain + sql.replace("%", "%%"), [])
            (plan,) = cursor.fetchone()[0]
            found.append(Plan(sql, plan["Plan"]))
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exactness.plans", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args(argv)

    from demo import scratch
    from demo.servers import servers

    with scratch.directory() as directory, servers(directory) as environment:
        os.environ.update({**environment, "CELERY_BROKER_URL": "memory://", "SAVE_TIMEOUT_S": "5"})
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
        import django

        django.setup()
        return _tell(options.runs)


def _tell(runs: int) -> int:
    from django.core.management import call_command
    from django.utils import timezone

    from demo import history
    from demo.shape import shapes
    from workflows_tasks import projection, repair
    from workflows_tasks.models import Bookmark

    call_command("migrate", verbosity=0)
    print(f"{history.load(shapes(runs)):,} runs", flush=True)  # noqa: T201
    projection.fill()
    history.vacuum()
    scanned = 0
    for behind in (timedelta(minutes=2), timedelta(days=2), timedelta(days=365)):
        since = (timezone.now() - behind).isoformat()
        Bookmark.objects.update_or_create(name=repair.RUNS, defaults={"position": {"used_at": since, "run": None}})
        scanned += _print(f"A sweep that is {behind} behind", plans(repair.sweep, "bots_savedrun", EXPLAIN)[:2])
    scanned += _print("A step of the audit", plans(repair.audit, "bots_savedrun", EXPLAIN))
    return bool(scanned)


def _print(title: str, found: list[Plan]) -> int:
    print(f"\n{title}")  # noqa: T201
    for plan in found:
        print(f"  {plan.root['Actual Total Time']:9.2f} ms  {' '.join(plan.statement.split())[:90]} ...")  # noqa: T201
        for node in nodes(plan.root):
            index, table = node.get("Index Name", ""), node.get("Relation Name", "")
            where = f"{index} on {table}" if index else table
            blocks = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
            rows = node["Actual Rows"] * node["Actual Loops"]
            print(f"      {node['Node Type']:<20} {where:<70} rows {rows:>9,.0f}  blocks {blocks:>8,}")  # noqa: T201
    return sum(plan.scans("bots_savedrun") for plan in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
