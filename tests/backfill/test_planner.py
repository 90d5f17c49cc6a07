"""The plan: what is counted, how it is packed, that it writes nothing, and that it waits for the triggers."""

from __future__ import annotations

import re
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backfill import control, planner, ranges
from backfill.models import Backfill, Chunk
from backfill.ranges import Step
from tests.backfill.given import CHUNK, History, assert_complete, carry_out, plan_backfill, start_backfill
from tests.commands import ROOT
from tests.hosts.adapter import Host
from tests.sessions import locked, session
from workflows_tasks import history as history_of_package
from workflows_tasks.capture import installation
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.history import EVERYWHERE


def runs_of(step: Step) -> list[str]:
    """The runs of history that are in a step now, as the database says."""
    return [run for _, run in ranges.first_runs(step.range, 10**6)]


def test_all_of_history_is_planned_once_and_in_equal_chunks(history: History) -> None:
    """Also where one workspace has more than half of all runs: it is cut by the keys of its runs."""
    plan = control.plan(chunk_size=CHUNK)
    assert (plan.runs, plan.workspaces) == (history.runs, 14)
    seen = [run for chunk in plan.chunks for step in chunk for run in runs_of(step)]
    assert len(seen) == len(set(seen)) == history.runs
    for chunk in plan.chunks:
        assert [len(runs_of(step)) for step in chunk] == [step.runs for step in chunk]
        assert len(runs_of(ranges.join(chunk))) == sum(step.runs for step in chunk)
    assert plan.largest <= 1.05 * CHUNK
    assert len(plan.chunks) <= ceil(1.1 * history.runs / CHUNK)
    heavy = history.text(history.heavy)
    assert sum(heavy in {step.first for step in chunk} for chunk in plan.chunks) >= 3
    whole = [ranges.join(chunk) for chunk in plan.chunks]
    assert all(a.last_run == b.after_run for a, b in pairwise(whole) if a.last == b.first), "chunks overlap"


def test_ranges_to_verify_have_whole_workspaces(history: History) -> None:
    steps = [step for steps in control.plan(chunk_size=CHUNK).ranges for step in steps]
    assert all(step.after_run is None and step.last_run is None for step in steps)
    assert sum(step.runs for step in steps) == history.runs


@pytest.mark.host_independent
def test_planning_sees_one_moment_writes_nothing_and_asks_no_more_for_more_workspaces(history: History) -> None:
    with CaptureQueriesContext(connection) as captured:
        control.plan(chunk_size=CHUNK)
    asked = [query["sql"] for query in captured]
    assert any("REPEATABLE READ" in sql for sql in asked)
    assert not any(word in sql for sql in asked for word in ("INSERT", "UPDATE ", "DELETE"))
    assert not Backfill.objects.exists()
    assert not Chunk.objects.exists()
    history.add(60, *(history.host.make_workspace() for _ in range(30)))
    with CaptureQueriesContext(connection) as again:
        control.plan(chunk_size=CHUNK)
    assert len(again) == len(asked)


@pytest.mark.host_independent
def test_it_is_planned_by_one_worker_at_a_time(history: History) -> None:
    with session() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 7)", [planner.LOCK_CLASS])
        with pytest.raises(planner.PlannedByAnother):
            planner.plan(EVERYWHERE, chunk_size=CHUNK, backfill_id=7)


@pytest.mark.host_independent
def test_planning_that_fails_pauses_it_and_says_why(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    table = history.host.run_model._meta.db_table
    with monkeypatch.context() as patch, locked(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE'):
        patch.setattr(planner, "TIMEOUT_S", 0.05)
        backfill = plan_backfill()
    assert backfill.status == "paused"
    assert backfill.error.startswith("planning failed: ")
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_nothing_starts_while_writes_are_not_captured(history: History) -> None:
    """What was written between the plan's snapshot and the triggers would be in neither."""
    installation.turn_off()
    try:
        with pytest.raises(InvalidArgument, match=r"triggers are turned off; run: manage\.py recent_workflows trigg"):
            start_backfill()
    finally:
        installation.install()
    assert not Backfill.objects.exists()


@pytest.mark.host_independent
def test_a_refusal_names_one_problem_and_where_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_of_package, "capture_problems", lambda: ["one is wrong", "so is two", "and three"])
    with pytest.raises(InvalidArgument, match=r": one is wrong; 2 more: manage\.py recent_workflows health\.$"):
        start_backfill()


@pytest.mark.host_independent
@pytest.mark.parametrize("when", ["before it counts", "while it counts"])
def test_no_plan_is_made_while_writes_are_not_captured(
    history: History, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill = start_backfill()
    real = planner.plan

    def plan(*args: object, **kwargs: object) -> planner.Plan:
        plan = real(*args, **kwargs)  # type: ignore[arg-type]
        installation.turn_off()
        return plan

    try:
        if when == "before it counts":
            installation.turn_off()
        else:
            monkeypatch.setattr(planner, "plan", plan)
        planner.carry_out(backfill.pk)
    finally:
        installation.install()
    monkeypatch.undo()
    now = control.get(backfill.pk)
    assert (now.status, now.planned_at) == ("paused", None)
    assert "triggers are turned off" in now.error
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_the_documented_migration_starts_it_where_there_is_history(live: Host) -> None:
    """A new database has none, and not yet its triggers: ``migrate`` must not fail there."""
    page = (ROOT / "docs" / "backfill.md").read_text()
    (block,) = re.findall(r"```python\n(from django\.db import migrations\n.*?)```", page, re.DOTALL)
    migration: dict[str, Any] = {}
    exec(block, migration)
    installation.turn_off()
    try:
        migration["start"](apps, None)
    finally:
        installation.install()
    assert not Backfill.objects.exists()
    history = History(live)
    migration["start"](apps, None)
    backfill = Backfill.objects.get()
    assert (backfill.status, backfill.actor) == ("enqueued", "migration bots.0042")
    assert_complete(history, carry_out(backfill))
