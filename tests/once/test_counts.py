"""The costs that the benchmarks report, guarded as counts: what a machine's mood cannot change.

Each limit is what is needed today. A change that needs more must say why, here; one that needs less lowers the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from celery import Celery
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests import broker
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from tests.vacuum import vacuum
from workflows_tasks import announce, conf, inbox, projection, recent_workflows, transactions
from workflows_tasks.flush import flush
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql import looks, writes
from workflows_tasks.sql.fragments import Workspaces

RUNS = 400
CONDITIONS = ("Cond", "Filter")
"""How the names end under which a node of a plan has its conditions."""

ROWS_A_RUN = 2
"""Its workspace's and its user's."""


LATER = """
    INSERT INTO bots_savedrun
        (workspace_id, uid, parent_version_id, surface, is_api_call, state, created_at, updated_at)
    SELECT workspace_id, uid, parent_version_id, 0, false, '{}', now(), updated_at + nth * interval '1 minute'
    FROM bots_savedrun CROSS JOIN generate_series(1, %s) AS nth ORDER BY bots_savedrun.id, nth
"""
"""So many more runs for each, of the same key and later."""


@pytest.fixture
def history(live: Host, configure: Configure) -> list[Any]:
    """Runs of as many keys, in one shard, all of them in the table."""
    configure(SHARDS=1)
    workspaces = [live.make_workspace() for _ in range(20)]
    workflows = [live.make_workflow() for _ in range(21)]
    runs = live.make_runs(RUNS, workspaces=workspaces, workflows=workflows, users=[live.make_user()])
    projection.fill()
    assert WorkspaceRecentWorkflow.objects.count() == ROWS_A_RUN * RUNS
    vacuum(live.run_model, WorkspaceRecentWorkflow)
    return runs


def save(live: Host, runs: Sequence[Any]) -> None:
    """Used just now, and announced; a time for each, or PostgreSQL would have less to write."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bots_savedrun SET updated_at = clock_timestamp() WHERE id = ANY(%s)", [list(runs)])
    announce(runs)


def statements(shard: int = 0) -> list[str]:
    """What a flush asks of the database, by its first words."""
    with CaptureQueriesContext(connection) as captured:
        flush(shard)
    return [" ".join(query["sql"].split()[:2]) for query in captured]


def test_a_flush_is_nine_statements(live: Host, history: list[Any]) -> None:
    """However many runs. Rows that are set back take ten more, however many rows."""
    save(live, history)
    assert statements() == [
        "BEGIN",
        "SET TRANSACTION",
        f"SELECT pg_advisory_xact_lock({transactions.LOCK_CLASS},",
        "WITH announced",
        "COMMIT",
        "BEGIN",
        "SET TRANSACTION",
        "SELECT mod(('x'",
        "COMMIT",
    ]
    live.run_model._base_manager.filter(pk__in=history[:5]).update(**live.hidden)
    announce(history[:5])
    assert len(statements()) <= 9 + 13
    assert_exact(live)


def test_a_second_flush_of_the_same_runs_writes_nothing(live: Host, history: list[Any]) -> None:
    save(live, history)
    flush_all()
    announce(history)
    assert wal_bytes(lambda: flush(0)) < 2_000  # no row, no lock on one: at most a hint and the commit of nothing
    (shard,) = inbox.status()
    assert shard.stats["rows_raised"] == ROWS_A_RUN * RUNS


def wal_bytes(act: Any) -> int:
    """Bytes of WAL that the server writes meanwhile. Nobody else writes to a test's server but now and then itself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn()")
        (before,) = cursor.fetchone()
        act()
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)", [before])
        return int(cursor.fetchone()[0])


def test_a_raised_row_writes_less_than_a_kilobyte_of_wal(live: Host, history: list[Any]) -> None:
    """The row and an entry in each of five indexes, about 700 bytes; one index more would be 100 more."""
    written = []
    for _ in range(3):  # whichever of them follows a checkpoint also writes whole pages
        save(live, history)
        written.append(wal_bytes(lambda: flush(0)) / (ROWS_A_RUN * RUNS))
    assert 300 < min(written) < 800


def test_messages_are_one_for_a_shard_and_window(
    live: Host, history: list[Any], alone: str, celery_app_in_process: Celery, configure: Configure
) -> None:
    configure(SHARDS=8)
    runs = list(live.run_model._base_manager.filter(pk__in=history[:50]))
    for _ in range(7):
        for run in runs:
            with transaction.atomic():
                run.save()
    assert broker.waiting(celery_app_in_process, alone) <= conf.settings().shards


AS_ON_LARGE_TABLES = ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "incremental_sort")
"""Ways that the planner takes, or not, as statistics of a table of a few rows happen to say."""


def nodes(statement: tuple[str, Any]) -> Counter[str]:
    """The kinds of nodes of a statement's plan, one that walks indexes."""
    sql, params = statement
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET LOCAL enable_{way} = off" for way in AS_ON_LARGE_TABLES))
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()[0]
    return Counter(node["Node Type"] for node in _nodes(plan["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def test_plans_have_no_more_parts_than_they_need(live: Host, history: list[Any]) -> None:
    """A read is a range of one index. A flush reads the runs once, each key's row once, and writes once."""
    few = history[:5]
    workspace = live.run_model._base_manager.first().workspace_id
    for page in (
        recent_workflows(workspace).query.sql_with_params(),
        looks.newest_rows(connection.alias, workspace, "", 4),
    ):
        assert nodes(page) == {"Limit": 1, "Index Only Scan": 1}
    raising = nodes(writes.raise_rows(0, few))
    assert raising["ModifyTable"] == 1
    assert sum(count for kind, count in raising.items() if kind.endswith(("Index Scan", "Seq Scan"))) <= 2
    assert sum(raising.values()) <= 24
    looking = nodes(looks.stale_rows(few))
    assert sum(looking.values()) <= 8


def test_the_look_after_a_commit_reads_its_runs_once_and_no_others(live: Host, history: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LATER, [100])
        projection.fill()
        cursor.execute("ANALYZE")
        newest = WorkspaceRecentWorkflow.objects.filter(uid="").values_list("last_run_id", flat=True)
        sql, params = looks.stale_rows(list(newest))
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()[0]
    reads = [node for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "bots_savedrun"]
    assert [(node["Actual Loops"], node["Actual Rows"]) for node in reads] == [(1, len(history))]


def test_the_look_after_a_chunk_knows_in_which_range_its_runs_are(live: Host, history: list[Any]) -> None:
    """So that an index that begins with the workspace can lead to them."""
    first, last = sorted(live.run_model._base_manager.values_list("workspace_id", flat=True).distinct())[3:5]
    sql, params = looks.stale_in_range(Workspaces(first=first, last=last))
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()[0]
    (read,) = (node for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "bots_savedrun")
    conditions = " ".join(
        str(part) for node in _nodes(read) for name, part in node.items() if name.endswith(CONDITIONS)
    )
    assert "workspace_id >=" in conditions
    assert "workspace_id <=" in conditions
