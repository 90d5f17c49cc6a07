"""Scopes, step by step: changes that name runs by what they lead through."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from tests.concurrency.given import Given, ways_to_go
from tests.concurrency.stepping import Actor, open_transaction
from workflows_tasks import history
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES
from workflows_tasks.projection import changes, scopes
from workflows_tasks.projection.changes import Scope

has_hops = pytest.mark.where_allowed("workflow")
"""With hosts where something is between a run and its workflow."""

STEPS = ["scope taken", "logged", "about to forget", "forgotten", "decided", "written"]


def scopes_waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {CHANGES} WHERE run IS NULL")
        return int(cursor.fetchone()[0])


def same_version(given: Given, run: Any, minute: float, workspace: Any) -> Any:
    """Another run that leads to its workflow through the same instances."""
    first = resolved().path[0].name
    other = given.run(minute, workspace=workspace)
    given.host.move(other, **{first: getattr(run, first)})
    return other


@pytest.mark.host_independent
@has_hops
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(given: Given, step: str) -> None:
    """What a scope names is logged and the scope forgotten in one transaction, or neither."""
    run = given.run(2)
    given.run(1)
    given.settle()
    given.lead_to(run, given.host.make_workflow())
    flushing = given.flush(step)
    if flushing.is_paused:
        flushing.kill()
    given.settle()


@has_hops
def test_runs_of_every_shard_follow_a_version(given: Given) -> None:
    run = given.run(2)
    for workspace in (given.earlier, given.beyond):
        same_version(given, run, 3, workspace)
    given.settle()
    workflow = given.host.make_workflow()
    given.lead_to(run, workflow)
    assert {row.workflow for row in given.settle()} == {workflow.pk}


@has_hops
def test_a_run_arrives_before_its_version_is_led_on(given: Given) -> None:
    """When the version's change is written there is no such run in that shard, so it must be written for all."""
    run = given.run(1)
    given.settle()
    with open_transaction(lambda: given.lead_to(run, given.host.make_workflow())) as commit:
        for workspace in (given.earlier, given.beyond):
            same_version(given, run, 1, workspace)
        given.settle()
        commit()
    given.settle()


@has_hops
def test_a_scope_of_many_runs_is_split(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """By workspace, and then by ranges of runs, in as many transactions, each of which may be its flush's last."""
    monkeypatch.setattr(scopes, "MOST_RUNS", 2)
    run = given.run(2)
    for minute in range(3):
        for workspace in (given.workspace, given.earlier, given.beyond):
            same_version(given, run, minute, workspace)
    given.settle()
    workflow = given.host.make_workflow()
    given.lead_to(run, workflow)
    _flush_and_kill_each(given)
    assert {row.workflow for row in given.settle()} == {workflow.pk}


@pytest.mark.host_independent
def test_a_scope_of_more_rows_than_runs_is_not_split(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run has two rows. A scope that could not be cut would be replaced by itself for ever."""
    monkeypatch.setattr(scopes, "MOST_RUNS", 3)
    for minute in range(3):
        given.run(minute, workflow=given.host.make_workflow())
    assert len(given.settle()) == 6
    key = history.workspace_text(given.workspace)
    changes.log_scopes(given.shard, [Scope((), key, resolved().workspace.name, (key,), None, None)])
    given.flush().finish()
    assert not scopes_waiting()


@pytest.mark.host_independent
def test_a_scope_is_cut_in_the_order_of_its_keys(given: Given) -> None:
    """By their texts 10 comes before 9."""
    key = history.workspace_text(given.workspace)
    made = [given.run(minute) for minute in range(2)]
    for number, run in zip(("9", "10"), made, strict=True):
        given.host.run_model._base_manager.filter(pk=run.pk).update(id=int(f"90000000{number}"))
    scope = Scope((), key, resolved().workspace.name, (key,), None, None)
    cuts = [part.high for part in scopes._ranges(given.shard, scope, 1)]
    assert cuts == ["900000009", "9000000010", None]


def test_every_run_is_split_by_workspace(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "WORKSPACES_AT_ONCE", 1)
    for minute in range(3):
        for workspace in (given.workspace, given.earlier, given.beyond):
            given.old_run(minute, workspace=workspace)
    changes.log_everything()
    _flush_and_kill_each(given)
    given.settle()


def _flush_and_kill_each(given: Given) -> None:
    for _ in range(4):
        flushing = given.flush("scope taken", "about to begin")
        if flushing.is_paused:
            flushing.go_on()
        if flushing.is_paused:
            flushing.kill()
        else:
            flushing.finish()


def test_a_scope_waits_for_nobody(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves do not wait behind a scope that is split again and again."""
    monkeypatch.setattr(scopes, "MOST_RUNS", 1_000)
    run = given.run(1)
    changes.log_everything()
    flushing: Actor[Any] = given.flush("scope taken")
    assert flushing.is_paused
    given.assert_rows_name(run)
    assert scopes_waiting()
    flushing.finish()
    given.settle()


@has_hops
@pytest.mark.parametrize("going", ["deleted", "hidden", "moved"])
def test_the_newest_of_a_scope_goes_before_its_own_change_is_flushed(given: Given, going: str) -> None:
    """The next newest of the scope's runs is then the newest of its key, and no other change names it."""
    next_newest = given.run(2)
    newest = same_version(given, next_newest, 5, given.workspace)
    given.settle()
    workflow = given.host.make_workflow()
    given.lead_to(next_newest, workflow)
    flushing = given.flush("scope taken", "about to begin")
    assert flushing.is_paused
    flushing.go_on()  # the scope is resolved and forgotten
    assert flushing.is_paused
    newest.refresh_from_db()
    ways_to_go(given)[going][0](newest)
    flushing.finish()
    assert next_newest.pk in {row.run for row in given.settle()}
