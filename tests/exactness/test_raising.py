"""A run goes, or goes elsewhere, while a flush that read it is about to write it.

Its own flush may come before that write and find nothing to take back. Where both are of one shard the lock puts one
after the other; where they are not, the look after the commit finds what was written in vain.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.exactness.scene import Scene, finish
from tests.oracle import stored
from workflows_tasks import inbox
from workflows_tasks.host import host as resolved


def test_ce3_the_run_is_deleted_and_its_flush_is_of_the_same_shard(scene: Scene) -> None:
    """A flush has read R6 and is about to commit it. R6 is deleted; its flush finds no row. Then R6 is there."""
    older = scene.run(4)
    scene.settle()
    newest = scene.run(6)
    raising = scene.flush("raised")
    assert raising.is_paused
    newest.delete()
    following = scene.flush()
    raising.finish()
    following.finish()
    scene.shows(older)


@pytest.mark.parametrize("older", [True, False], ids=["set back", "removed"])
@pytest.mark.parametrize("gone", ["deleted", "hidden"])
def test_ce3_the_run_goes_and_its_flush_is_of_another_shard(scene: Scene, older: bool, gone: str) -> None:
    """The same where the delete, or the save, did not load the workspace, as cascades do not: it is announced by the
    run's own id, which falls into another shard. No lock is common to both flushes."""
    newest = scene.run_beyond(6, hidden=True)
    left = [scene.run(4)] if older else []
    scene.settle()
    scene.host.unhide(newest)
    raising = scene.flush("raised")
    assert raising.is_paused
    if gone == "deleted":
        scene.in_part(newest).delete()
    else:
        scene.host.hide(scene.in_part(newest))
    finish(scene.flush_others())
    raising.finish()
    scene.shows(*left)


def test_the_run_moves_to_a_workspace_of_another_shard(scene: Scene) -> None:
    """A flush has read R6 here. R6 moves; the flush of its new workspace's shard writes it there, and finds no row to
    take back here. Then R6 is committed here, too. This is what the look after the commit is for."""
    older = scene.run(4)
    scene.settle()
    newest = scene.run(6)
    raising = scene.flush("raised")
    assert raising.is_paused
    scene.host.move_to_workspace(newest, scene.beyond)
    finish(scene.flush_others())
    raising.finish()
    scene.shows(older, newest)


def test_the_run_moves_inside_the_statement_that_writes_it(scene: Scene) -> None:
    """The same within one statement, which has taken its snapshot and waits for a row before R6's."""
    scene.run(1, workspace=scene.earlier)
    older = scene.run(4)
    scene.settle()
    early, newest = scene.run(2, workspace=scene.earlier), scene.run(6)
    with scene.held_up():
        raising = scene.flush()
        assert raising.waits
        scene.host.move_to_workspace(newest, scene.beyond)
        finish(scene.flush_others())
    raising.finish()
    scene.shows(early, older, newest)


@pytest.mark.parametrize("what", ["workspace", "workflow", "version"])
def test_a_key_goes_mid_flush(scene: Scene, what: str) -> None:
    """A workspace, workflow or version is deleted while a flush is about to commit a row of it. The cascade cannot
    see that row, and no constraint of ours refuses it: the flush goes through, its other rows with it, and what it
    wrote in vain is found."""
    doomed = scene.run(6)
    other = scene.run(5, workspace=scene.earlier, workflow=scene.host.make_workflow())
    raising = scene.flush("raised")
    assert raising.is_paused
    victim: Any = {
        "workspace": scene.workspace,
        "workflow": scene.workflow,
        "version": getattr(doomed, resolved().path[0].name),
    }[what]
    victim.delete()
    assert raising.finish().runs == 2
    scene.shows(other)
    assert sum(shard.aside for shard in inbox.status()) == 0


def test_a_run_that_goes_and_comes_back_ends_in_one_place(scene: Scene) -> None:
    """Two shards' flushes of one run that moves between their workspaces, each with what the other is about to see."""
    run = scene.run(6)
    here = scene.flush("raised")
    scene.host.move_to_workspace(run, scene.beyond)
    there = scene.flush_others("raised")
    assert here.is_paused
    assert all(actor.is_paused for actor in there)
    scene.host.move_to_workspace(run, scene.workspace)
    here.finish()
    scene.flush().finish()
    finish(there)
    scene.shows(run)
    assert {row.workspace for row in stored()} == {scene.key_of(scene.workspace)}


def test_only_flushes_of_one_shard_wait_for_each_other(scene: Scene) -> None:
    """The lock is the shard's: another shard's flush goes on beside it."""
    scene.run(1)
    first = scene.flush("raised")
    here = scene.run(3)
    second = scene.flush()
    assert second.waits
    there = scene.run(3, workspace=scene.beyond)
    finish(scene.flush_others())
    assert scene.names(there)
    first.finish()
    second.finish()
    scene.shows(here, there)


def test_a_flush_locks_rows_in_key_order(scene: Scene) -> None:
    """While somebody holds the first row, a flush that raises many must not hold a later one, whatever order they
    were inserted in and its ids came in."""
    scene.crowd(1)
    scene.settle()
    newest = scene.crowd(2)
    with scene.held_up():
        raising = scene.flush()
        assert raising.waits
        scene.assert_later_rows_are_free()
    raising.finish()
    scene.shows(*newest)
