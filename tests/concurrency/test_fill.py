"""Fills beside flushes, step by step. A fill takes no lock, so each may write what the other has read."""

from __future__ import annotations

import pytest

from tests.concurrency.given import Given
from tests.concurrency.stepping import TABLE
from tests.sessions import locked
from workflows_tasks import history

pytestmark = pytest.mark.host_independent

LOCK_WORKSPACE = f"SELECT FROM {TABLE} WHERE workspace_id = %s AND uid = '' FOR UPDATE"


def test_a_flush_does_not_undo_a_fill(given: Given) -> None:
    """The flush has its snapshot, without a row, and waits for one of an earlier workspace. Meanwhile a fill writes a
    newer run than the one that was saved."""
    given.run(1, workspace=given.earlier)
    given.settle()
    newest = given.old_run(9)
    given.run(2, workspace=given.earlier)
    given.run(5)
    with locked(LOCK_WORKSPACE, given.host.workspace_key(given.earlier)):
        flushing = given.flush()
        assert flushing.waits
        assert history.fill(given.range)
    flushing.finish()
    assert newest.pk in {row.run for row in given.settle()}


def test_a_fill_does_not_undo_a_flush(given: Given) -> None:
    """The fill has its snapshot, and waits for a row of an earlier workspace; meanwhile a newer run is flushed."""
    given.run(1, workspace=given.earlier)
    given.settle()
    given.old_run(2, workspace=given.earlier)
    given.old_run(5)
    with locked(LOCK_WORKSPACE, given.host.workspace_key(given.earlier)):
        filling = given.fill(among=history.EVERYWHERE)
        assert filling.waits
        newest = given.run(9)
        given.flush().finish()
    filling.finish()
    assert newest.pk in {row.run for row in given.settle()}


@pytest.mark.parametrize("going", ["deleted", "hidden", "moved"])
def test_a_run_goes_while_a_fill_writes_it(given: Given, going: str) -> None:
    """Its change is flushed before the fill's row is there to be seen; the look finds it."""
    goes = given.old_run(9)
    filling = given.fill("written")
    assert filling.is_paused
    _go(given, goes, going)
    given.flush().finish()
    filling.finish()
    given.close_chunk()
    given.settle()


@pytest.mark.parametrize("going", ["deleted", "hidden", "moved"])
def test_a_fill_is_killed_before_its_look(given: Given, going: str) -> None:
    """The next fill of the chunk writes nothing. The look is over what is there all the same."""
    stays, goes = given.old_run(1), given.old_run(9)
    filling = given.fill("written")
    _go(given, goes, going)
    given.flush().finish()
    filling.finish()  # it has committed, and is killed
    assert history.fill(given.range) == 0
    given.close_chunk()
    assert stays.pk in {row.run for row in given.settle()}


def _go(given: Given, run: object, going: str) -> None:
    if going == "moved":
        given.host.move_to_workspace(run, given.beyond)
    else:
        {"deleted": given.delete, "hidden": given.host.hide}[going](run)


@pytest.mark.parametrize("commits", ["before the flush writes", "while the flush waits for it"])
@pytest.mark.parametrize("left", ["an older run", "nothing"])
def test_a_recompute_leaves_what_a_fill_wrote_meanwhile(given: Given, left: str, commits: str) -> None:
    """The row never goes back to what the search found."""
    if left == "an older run":
        given.run(1)
    goes = given.run(5)
    given.settle()
    given.delete(goes)
    flushing = given.flush("searched", "about to begin")
    assert flushing.is_paused
    newest = given.run(9)
    filling = given.fill("written")
    assert filling.is_paused
    if commits == "before the flush writes":
        filling.finish()
        flushing.go_on()
    else:
        flushing.go_on()
        assert flushing.waits
        filling.finish()
        flushing.stands()
    flushing.kill()  # after its first slice
    given.assert_rows_name(newest)
    given.settle()
