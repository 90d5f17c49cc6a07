"""A row whose run is gone gets the next newest, whatever happens while that is looked for.

Runs are named by their minutes: R5 is newer than R4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import models

from tests.conftest import Configure
from tests.exactness.scene import Scene, finish
from tests.hosts.adapter import moment
from tests.oracle import flush_all
from workflows_tasks import conf, projection, repair

HAS_VERSIONS = "__" in conf.settings().published_run_path
SET_BACK_OR_REMOVED = pytest.mark.parametrize("runner_up", [True, False], ids=["set back", "removed"])


def arrival(scene: Scene, how: str, minute: float) -> Callable[[], Any]:
    """Prepare a run that does not count for the key; what is returned makes it count, and returns it."""
    if how == "late commit":
        return lambda: scene.run(minute)
    run = scene.run(minute, hidden=True) if how == "un-hidden" else scene.run(minute, workspace=scene.beyond)
    scene.settle()

    def arrive() -> Any:
        if how == "un-hidden":
            scene.host.unhide(run)
        else:
            scene.host.move_to_workspace(run, scene.workspace)
        return run

    return arrive


@pytest.mark.parametrize("how", ["late commit", "un-hidden", "moved in"])
@SET_BACK_OR_REMOVED
def test_ce1_a_run_arrives_while_the_next_newest_is_looked_for(scene: Scene, how: str, runner_up: bool) -> None:
    """R5 is deleted; a flush looks for the next newest and sees R4 (CE1a) or nothing (CE1b). R4.5 arrives, older than
    what the row still says, so that raising it changes nothing. Then the flush writes R4, or deletes the row.

    R4.5's own flush must read after that write. Hence the lock, and hence a lock in a statement of its own: one that
    waits inside the statement that reads has its snapshot from before the wait.
    """
    arrive = arrival(scene, how, 4.5)
    if runner_up:
        scene.run(4)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    arrived = arrive()
    raising = scene.flush()
    lowering.finish()
    raising.finish()
    scene.shows(arrived)


@pytest.mark.parametrize("how", ["saved in part", *(["version led on"] if HAS_VERSIONS else [])])
@SET_BACK_OR_REMOVED
def test_ce1_a_run_arrives_whose_flush_is_of_another_shard(scene: Scene, how: str, runner_up: bool) -> None:
    """As before, but R4.5 is announced on another shard than its row's: saved by an instance that did not load its
    workspace, or reached by a version that now leads here. That flush holds another lock, or none. Whether R4.5 is
    newer than the row it cannot judge, for what it sees there is about to be set back.
    """
    stays = []
    if how == "saved in part":
        late = scene.run_beyond(4.5, hidden=True)
    else:
        elsewhere = scene.host.make_workflow()
        late = scene.run(4.5, workflow=elsewhere)
        stays = [scene.run(7, workflow=elsewhere)]
    if runner_up:
        scene.run(4)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    if how == "saved in part":
        scene.host.unhide(scene.in_part(late))
    else:
        scene.lead_on(late, scene.workflow)
    others = scene.flush_others()
    lowering.finish()
    finish(others)
    scene.shows(late, *stays)


@pytest.mark.parametrize("gone", ["deleted", "hidden", "moved"])
def test_ce6_the_runner_up_goes_while_it_is_about_to_be_written(scene: Scene, gone: str) -> None:
    """R5 is deleted and a flush is about to write R4 in its place. R4 goes; its own flush, of another shard and so
    under another lock, finds no row of R4's. Then R4 is written. Only a look after that commit can notice."""
    older, newest = scene.run(3), scene.run(5)
    runner_up = scene.run_beyond(4)
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    if gone == "deleted":
        scene.in_part(runner_up).delete()
    elif gone == "hidden":
        scene.host.hide(scene.in_part(runner_up))
    else:
        scene.host.move_to_workspace(runner_up, scene.beyond)
    finish(scene.flush_others())
    lowering.finish()
    scene.shows(older, *([runner_up] if gone == "moved" else []))


def test_ce6_in_the_same_shard(scene: Scene) -> None:
    """The same with R4's flush under the same lock: it waits, and then sees R4 in the table."""
    older, runner_up, newest = scene.run(3), scene.run(4), scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    runner_up.delete()
    following = scene.flush()
    lowering.finish()
    following.finish()
    scene.shows(older)


@SET_BACK_OR_REMOVED
def test_a_fill_raises_the_row_that_is_about_to_be_written(scene: Scene, runner_up: bool) -> None:
    """R5 is deleted; a flush is about to write R4, or delete the row. R6 is history that nobody announces; a fill,
    which takes no lock, writes it and finds it true. If the flush now wrote on, nothing pending would ever look at
    that row again: it may only write what still is as it read it."""
    if runner_up:
        scene.run(4)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    history = scene.silent_run(6)
    assert projection.fill() == (2, [])
    lowering.finish()
    scene.shows(history)


def test_a_row_that_its_workflow_took_along_is_not_brought_back(scene: Scene) -> None:
    """A flush is about to set a row back; the host deletes the workflow, and its cascade deletes the row."""
    scene.run(4)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    scene.workflow.delete()
    lowering.finish()
    assert scene.names()
    scene.shows()


def test_rows_are_set_back_in_key_order(scene: Scene) -> None:
    """While somebody holds the first row, a flush that sets many back must not hold a later one: whoever holds the
    first may be about to ask for it."""
    older, newer = scene.crowd(1), scene.crowd(2)
    scene.settle()
    for run in newer:
        run.delete()
    with scene.held_up():
        lowering = scene.flush()
        assert lowering.waits
        scene.assert_later_rows_are_free()
    lowering.finish()
    assert set(older) >= {scene.host.run_model._base_manager.get(pk=row.run) for row in scene.settle()}


SIZES = [(100, (100,)), (4, (2, 3)), (1, (1,)), (1, (2, 5))]


@pytest.mark.parametrize(("light", "pages"), SIZES, ids=["light", "at the edge", "by workflow", "walked"])
def test_the_next_newest_is_found_however_many_runs_there_are(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, light: int, pages: tuple[int, ...]
) -> None:
    """Light workspaces are read whole, heavy ones walked page by page, then searched by workflow: always the same."""
    for name, value in {"LIGHT": light, "PAGES": pages, "BRANCHES": 2}.items():
        monkeypatch.setattr(projection, name, value)
    workflows = [scene.workflow, *(scene.host.make_workflow() for _ in range(2))]
    users = [scene.user, scene.host.make_user()]
    runs = [scene.run(minute // 2, workflow=workflows[minute % 3], user=users[minute // 3 % 2]) for minute in range(12)]
    scene.settle()
    for some in (runs[9:], runs[3:9], runs[:3]):
        for run in some:
            run.delete()
        scene.settle()
    assert scene.names()


def test_runs_that_arrive_while_the_next_newest_is_looked_for_do_not_hide_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace is found to be light, so that it can be read whole. Before it is read it has become heavy. What is
    left of a workflow may now be further down than a light workspace reaches; it must not be taken for nothing."""
    monkeypatch.setattr(projection, "LIGHT", 3)
    monkeypatch.setattr(projection, "PAGES", (3, 5))
    left, newest = scene.run(1), scene.run(2)
    scene.settle()
    newest.delete()
    lowering = scene.flush("found light")
    assert lowering.is_paused
    workflow = scene.host.make_workflow()
    arrived = [scene.run(minute, workflow=workflow) for minute in range(3, 7)]
    lowering.finish()
    scene.shows(left, arrived[-1])


def test_the_hosts_base_manager_leaves_runs_out(
    scene: Scene, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where old runs are archived by their time. Those that it leaves out do not count."""
    field = scene.host.used_at_field

    class Kept(models.Manager[Any]):
        def get_queryset(self) -> models.QuerySet[Any]:
            kept: models.QuerySet[Any] = super().get_queryset().filter(**{f"{field}__gte": moment(3)})
            return kept

    manager = Kept()
    manager.model = scene.host.run_model
    _, *kept, newest = (scene.run(minute) for minute in (1, 4, 5))
    monkeypatch.setattr(scene.host.run_model._meta, "base_manager", manager)
    configure(SWEEP_PAGE=1_000)  # so that its statements are compiled again
    flush_all()
    for run, left in ((newest, kept), (kept[0], [])):
        run.delete()
        flush_all()
        assert scene.names(*left)
    assert [(each.runs, each.drift) for each in repair.check(scene.only_here)] == [(1, [])]  # the archived one
