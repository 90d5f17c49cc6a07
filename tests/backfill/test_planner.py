"""The plan: what is counted, how it is packed, and that it writes nothing."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backfill import advice, planner, runner, spans, sql
from backfill.models import Chunk, Run
from backfill.spans import Step
from tests.backfill.history import CHUNK, History
from tests.hosts.adapter import Host, moment
from tests.vacuum import vacuum
from workflows_tasks import truth
from workflows_tasks.sql.fragments import EVERYWHERE, Workspaces


def runs_of(step: Step) -> list[Any]:
    """The runs of history that are in a step now, as the database says."""
    return [run for (run,) in truth.rows(sql.runs_in(step.workspaces, 10**6))]


def test_all_of_history_is_planned_once(history: History) -> None:
    plan = runner.plan(chunk_size=CHUNK)
    assert plan.runs == history.runs
    seen = [run for chunk in plan.chunks for step in chunk for run in runs_of(step)]
    assert len(seen) == len(set(seen)) == history.runs
    for chunk in plan.chunks:
        assert [len(runs_of(step)) for step in chunk] == [step.runs for step in chunk]
        assert len(runs_of(spans.joined(chunk))) == sum(step.runs for step in chunk)


def test_chunks_are_as_large_as_they_should_be(history: History) -> None:
    """Also where one workspace has more than half of all runs: it is cut by the keys of its runs."""
    plan = runner.plan(chunk_size=CHUNK)
    assert plan.largest <= 1.05 * CHUNK
    assert len(plan.chunks) <= ceil(1.1 * history.runs / CHUNK)
    heavy = spans.workspace_text(history.key(history.heavy))
    assert sum(heavy in {step.first for step in chunk} for chunk in plan.chunks) >= 3


def test_ranges_to_verify_have_whole_workspaces(history: History) -> None:
    plan = runner.plan(chunk_size=CHUNK)
    steps = [step for steps in plan.ranges for step in steps]
    assert all(step.after_run is None and step.last_run is None for step in steps)
    assert sum(step.runs for step in steps) == history.runs


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 1_000])
def test_any_chunk_size(history: History, chunk_size: int) -> None:
    plan = runner.plan(chunk_size=chunk_size)
    seen = [run for chunk in plan.chunks for run in runs_of(spans.joined(chunk))]
    assert len(seen) == len(set(seen)) == history.runs
    assert plan.largest <= chunk_size


def test_the_heaviest_and_the_histogram(history: History) -> None:
    plan = runner.plan(chunk_size=CHUNK)
    assert plan.heaviest[0] == (spans.workspace_text(history.key(history.heavy)), 130)
    assert plan.histogram == [(1, 13, 52), (100, 1, 130)]
    assert plan.workspaces == 14


def test_only_a_range_of_workspaces(history: History) -> None:
    key = history.key(history.light[3])
    plan = runner.plan(Workspaces(first=key, last=key))
    assert [(whole.first, whole.last, whole.runs) for whole in map(spans.joined, plan.chunks)] == [
        (spans.workspace_text(key), spans.workspace_text(key), 4)
    ]


def test_only_runs_since_a_moment(history: History) -> None:
    since = moment(5)
    expected = sum(t.counts and t.used_at is not None and t.used_at >= since for t in history.host.truths())
    assert 0 < expected < history.runs
    assert runner.plan(since=since, chunk_size=CHUNK).runs == expected


def test_nothing_to_plan(live: Host) -> None:
    plan = runner.plan()
    assert (plan.runs, plan.chunks, plan.ranges, plan.heaviest) == (0, [], [], [])


def test_planning_writes_nothing_and_sees_one_moment(history: History) -> None:
    with CaptureQueriesContext(connection) as captured:
        runner.plan(chunk_size=CHUNK)
    asked = [query["sql"] for query in captured]
    assert any("REPEATABLE READ, READ ONLY" in sql for sql in asked)
    assert len([sql for sql in asked if sql.lstrip().startswith(("WITH", "SELECT"))]) == 3
    assert not Run.objects.exists()
    assert not Chunk.objects.exists()


def test_the_number_of_statements_does_not_grow_with_workspaces(history: History) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            runner.plan(chunk_size=CHUNK)
        return len(captured)

    before = statements()
    history.add(60, *(history.host.make_workspace() for _ in range(30)))
    assert statements() == before


def test_chunks_do_not_overlap(history: History) -> None:
    whole = [spans.joined(chunk) for chunk in runner.plan(chunk_size=CHUNK).chunks]
    assert all((a.last, a.last_run) != (b.first, None) or a.last != b.first for a, b in pairwise(whole))
    assert all(a.last_run == b.after_run for a, b in pairwise(whole) if a.last == b.first)


def test_a_run_is_planned_by_one_worker_at_a_time(history: History) -> None:
    from tests.exactness.stepping import another_connection

    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 7)", [planner.LOCK_CLASS])
        with pytest.raises(planner.PlannedByAnother):
            planner.plan(EVERYWHERE, since=None, chunk_size=CHUNK, parallel=1, for_run=7)


def test_the_index_that_is_advised_makes_the_count_read_it_alone(history: History) -> None:
    history.add(3_000, history.heavy, *history.light)  # of a table of few pages any index is as good
    tables = [history.host.run_model, *history.host.run_model._meta.parents]
    advised = advice.advise()
    assert advised.is_led_by_workspace
    assert advised.index.startswith("CREATE INDEX CONCURRENTLY recent_workflows_history ON ")
    vacuum(*tables)  # an index has old versions of rows in it, too, while anybody may see them: here three to a row
    with connection.cursor() as cursor:
        cursor.execute(advised.index)
        try:
            vacuum(*tables)
            cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
            again = advice.advise()
        finally:
            cursor.execute("DROP INDEX recent_workflows_history; RESET enable_seqscan; RESET enable_bitmapscan")
    assert again.index == ""
    assert again.reads_by == "Index Only Scan"
