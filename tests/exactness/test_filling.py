"""A fill runs beside live traffic without the lock: only upwards, and verified after its commit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exactness.scene import Scene, finish
from tests.exactness.stepping import Actor
from workflows_tasks import announce, dispatch, projection
from workflows_tasks.ids import encode


@pytest.fixture
def early(scene: Scene) -> Any:
    """History of the earlier workspace: whoever fills, or flushes it, comes to that workspace's row first."""
    scene.run(1, workspace=scene.earlier)
    scene.settle()
    return scene.silent_run(2, workspace=scene.earlier)


def fill() -> list[projection.StaleRow]:
    """A fill of everything, as its callers must do it: what it finds untrue is announced."""
    _, stale = projection.fill()
    dispatch.deliver({encode(row.run): row.shard for row in stale})
    return stale


def waiting_fill() -> Actor[list[projection.StaleRow]]:
    """A fill that has taken its snapshot, and waits for the earlier workspace's row."""
    actor = Actor(fill).stands()
    assert actor.waits
    return actor


@pytest.mark.parametrize("older", [True, False], ids=["set back", "removed"])
def test_ce7_a_run_is_deleted_that_a_fill_is_about_to_write(scene: Scene, early: Any, older: bool) -> None:
    """The fill's snapshot has R6. R6 is deleted, and its flush finds no row of it. Then the fill writes R6. What it
    finds untrue after its commit it must announce: no flush is under way that would look."""
    left = [scene.silent_run(4)] if older else []
    newest = scene.silent_run(6)
    with scene.held_up():
        filling = waiting_fill()
        newest.delete()
        scene.flush().finish()
    filling.finish()
    scene.shows(early, *left)


def test_a_run_moves_that_a_fill_is_about_to_write(scene: Scene, early: Any) -> None:
    """CE7 with a move to a workspace of another shard in place of the delete."""
    newest = scene.silent_run(6)
    with scene.held_up():
        filling = waiting_fill()
        scene.host.move_to_workspace(newest, scene.beyond)
        finish(scene.flush_others())
    filling.finish()
    scene.shows(early, newest)


def test_a_fill_does_not_undo_a_flush(scene: Scene, early: Any) -> None:
    """The fill's snapshot has R4. R5 is saved and flushed. Then the fill comes to that row. R4 is true in all but
    being the newest, so no look would find it: only that nothing is written but upwards keeps R5."""
    scene.silent_run(4)
    with scene.held_up():
        filling = waiting_fill()
        newest = scene.run(5)
        scene.flush().finish()
    assert filling.finish() == []
    scene.shows(early, newest)


def test_a_flush_does_not_undo_a_fill(scene: Scene, early: Any) -> None:
    """The same the other way round: a flush's snapshot has R5, and a fill writes R6, which nobody announces."""
    scene.run(5)
    announce([early])
    with scene.held_up():
        raising = scene.flush()
        assert raising.waits
        newest = scene.silent_run(6)
        assert projection.fill(scene.only_here) == (2, [])
    raising.finish()
    scene.shows(early, newest)


def test_a_fill_locks_rows_in_key_order(scene: Scene) -> None:
    """While it waits for the first row it must not hold a later one: a flush that holds the first may ask for it."""
    scene.crowd(1)
    scene.settle()
    newest = scene.crowd(2)
    with scene.held_up():
        filling = waiting_fill()
        scene.assert_later_rows_are_free()
    filling.finish()
    assert scene.names(*newest)
    scene.shows(*newest)


def test_a_fill_that_was_killed_before_its_verify_is_made_good_by_the_next(scene: Scene) -> None:
    """It has committed R6, which is deleted then; nobody looks. A fill looks at all rows of its range, not at those
    alone that it wrote, so the one that is made in its place finds R6's."""
    newest = scene.silent_run(6)
    killed: Actor[Any] = Actor(projection.fill, "filled").stands()
    assert killed.is_paused
    scene.delete_silently(newest)
    assert len(fill()) == 2
    killed.finish()
    scene.shows()
