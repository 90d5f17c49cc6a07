"""Flushes, step by step: what another transaction or another flush does between two of their statements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.concurrency.given import Given, ways_to_go
from tests.concurrency.stepping import AFTER, BEFORE
from workflows_tasks.models import CHANGES
from workflows_tasks.projection import changes, decisions

GOING = ["deleted", "hidden", "set back", "moved"]
RECOMPUTING = ["taken", "recomputed", "about to forget"]
"""Steps of a slice that recomputes a row. One that only advances rows is one statement."""


@pytest.mark.parametrize("going", GOING)
def test_a_run_comes_back_while_the_next_newest_is_searched(given: Given, going: str) -> None:
    """A second flush finds the shard busy. It would see the row as it was before, and true, and forget the change."""
    given.run(1)
    newest = given.run(2)
    given.settle()
    go, come_back = ways_to_go(given)[going]
    go(newest)
    first = given.flush("searched", "about to begin")
    assert first.is_paused
    come_back(newest)
    second = given.flush()
    first.go_on().kill()  # after its first slice
    second.finish()
    given.settle()
    given.assert_rows_name(newest)


@pytest.mark.parametrize("going", GOING)
def test_a_run_goes_while_a_flush_advances_to_it(given: Given, going: str) -> None:
    """A second flush would see the row as it was before, which does not name the run, and forget the change."""
    given.run(1)
    newest = given.run(0)
    given.settle()
    given.use(newest, 2)
    first = given.flush("written", "about to begin")
    assert first.is_paused
    go, _ = ways_to_go(given)[going]
    go(newest)
    second = given.flush()
    first.go_on().kill()  # after its first slice
    second.finish()
    given.settle()


@pytest.mark.host_independent
def test_a_second_flush_of_a_shard_does_nothing_and_waits_for_nobody(given: Given) -> None:
    run = given.run(1)
    first = given.flush("locked")
    second = given.flush().finish()
    assert second.is_busy
    assert not second.changes
    first.finish()
    given.assert_rows_name(run)


@pytest.mark.host_independent
@pytest.mark.parametrize("what", ["the same run", "another run", "another workspace"])
@pytest.mark.parametrize("step", ["written", *RECOMPUTING])
def test_a_change_that_commits_meanwhile_is_not_forgotten(given: Given, step: str, what: str) -> None:
    goes = given.run(1, workflow=given.host.make_workflow())
    runs = {
        "the same run": given.run(1),
        "another run": given.run(0),
        "another workspace": given.run(1, workspace=given.earlier),
    }
    given.settle()
    given.use(runs["the same run"], 2)
    if step in RECOMPUTING:
        given.delete(goes)
    flushing = given.flush(step)
    assert flushing.is_paused
    given.use(runs[what], 3)
    flushing.finish()
    given.settle()


@pytest.mark.host_independent
@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_killed_at_any_step(given: Given, step: str) -> None:
    """Nothing of a slice is there until all of it is."""
    stays, goes, moves = given.run(1), given.run(2), given.run(3, workspace=given.earlier)
    given.settle()
    given.delete(goes)
    given.host.move_to_workspace(moves, given.workspace)
    given.run(4)
    flushing = given.flush(step)
    if flushing.is_paused:
        flushing.kill()
    given.settle()
    given.delete(stays)
    given.settle()


@pytest.fixture
def repeatable_read(given: Given) -> Iterator[None]:
    """The database's default, for connections to come."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        yield
        cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


@pytest.mark.host_independent
@pytest.mark.usefixtures("repeatable_read")
def test_statements_after_the_lock_see_what_committed_before_them(given: Given) -> None:
    """Whatever the database's default is."""
    given.run(1)
    flushing = given.flush("locked", "about to begin")
    later = given.run(2)
    flushing.go_on().kill()  # after its first slice
    given.assert_rows_name(later)


@pytest.mark.host_independent
def test_what_a_full_slice_leaves_keeps_its_change(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after each slice, and each was progress."""
    monkeypatch.setattr(decisions, "MOST_RECOMPUTED", 1)
    users = [given.host.make_user() for _ in range(3)]
    runs = [given.run(minute, user=user) for minute, user in enumerate(users)]
    given.settle()
    for run in runs:
        given.delete(run)
    left = []
    for _ in range(4):
        given.flush("locked", "about to begin").go_on().kill()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {CHANGES}")
            left.append(cursor.fetchone()[0])
    assert left[-1] < left[0]
    assert given.settle() == []


@pytest.mark.host_independent
def test_what_a_slice_does_not_take_keeps_its_change(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_OF_WORKSPACE", 2)
    runs = [given.run(minute, user=given.host.make_user()) for minute in range(3)]
    given.settle()
    for run in runs:
        given.use(run, 9)
    given.settle()


@pytest.mark.parametrize("moved", ["while the shard it left is flushed", "while the shard it came to is flushed"])
@pytest.mark.parametrize("step", ["written", *RECOMPUTING])
def test_a_run_moves_to_another_shard(given: Given, step: str, moved: str) -> None:
    """There is a change in both."""
    stays, moves, there = given.run(1), given.run(2), given.run(1, workspace=given.beyond)
    given.settle()
    flushed = given.workspace if "left" in moved else given.beyond
    given.use(moves if "left" in moved else there, 0 if step in RECOMPUTING else 3)
    flushing = given.flush(step, workspace=flushed)
    assert flushing.is_paused
    given.host.move_to_workspace(moves, given.beyond)
    flushing.finish()
    assert stays.pk in {row.run for row in given.settle()}


@pytest.mark.where_allowed("workspace")
def test_a_run_leaves_every_workspace(given: Given) -> None:
    stays, leaves = given.run(1), given.run(2)
    given.settle()
    given.host.move_to_workspace(leaves, None)
    given.settle()
    given.assert_rows_name(stays)


@pytest.mark.host_independent
def test_a_run_that_becomes_the_newest_while_its_key_is_recomputed(given: Given) -> None:
    """Found between the search and the write: it is the next slice's, for its change was not taken."""
    given.run(1)
    goes = given.run(5)
    given.settle()
    given.delete(goes)
    flushing = given.flush("searched", "about to begin")
    comes = given.run(3)
    flushing.go_on().kill()
    given.settle()
    given.assert_rows_name(comes)


@pytest.mark.host_independent
def test_the_next_newest_goes_while_it_is_about_to_be_written(given: Given) -> None:
    stays, next_newest, goes = given.run(1), given.run(2), given.run(3)
    given.settle()
    given.delete(goes)
    flushing = given.flush("searched", "about to begin")
    given.delete(next_newest)
    flushing.go_on().kill()
    given.settle()
    given.assert_rows_name(stays)
