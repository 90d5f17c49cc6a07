"""What is hidden, and shown again, by a library that deletes softly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from safedelete import HARD_DELETE

from tests.exactness.scene import Scene, finish
from tests.exactness.softly.models import Edition, Page, Site, Visit


@pytest.fixture
def runs(scene: Scene) -> list[Any]:
    """Two runs here and one in another shard, of one workflow; and one of another workflow."""
    made = [scene.run(minute) for minute in (1, 2)]
    made += [scene.run(3, workspace=scene.beyond), scene.run(4, workflow=scene.host.make_workflow())]
    scene.shows(*made[1:])
    return made


HIDING: dict[str, tuple[Callable[[Scene, list[Any]], Any], tuple[int, ...]]] = {
    "a run": (lambda scene, runs: runs[1], (0, 2, 3)),
    "a workspace": (lambda scene, runs: scene.workspace, (2,)),
    "a workflow": (lambda scene, runs: scene.workflow, (3,)),
    "a version": (lambda scene, runs: runs[1].edition, (0, 2, 3)),
}
"""What is hidden; and the runs, by their position, that rows name then."""


@pytest.mark.parametrize("what", HIDING)
def test_hidden_and_shown_again(scene: Scene, runs: list[Any], what: str) -> None:
    """Its rows go, or get the next newest run; then they come back, in every shard."""
    find, left = HIDING[what]
    thing = find(scene, runs)
    thing.delete()
    assert type(thing).all_objects.filter(pk=thing.pk).exists()
    scene.shows(*(runs[position] for position in left))
    thing.undelete()
    # Hiding a workflow hides its versions, and the library takes these from their runs for good.
    scene.shows(*([runs[3]] if what == "a workflow" else runs[1:]))


@pytest.mark.parametrize("what", HIDING)
def test_deleted_for_good(scene: Scene, runs: list[Any], what: str) -> None:
    find, left = HIDING[what]
    find(scene, runs).delete(force_policy=HARD_DELETE)
    scene.shows(*(runs[position] for position in left))


@pytest.mark.parametrize("what", HIDING)
def test_hidden_while_a_flush_is_about_to_write_it(scene: Scene, what: str) -> None:
    """Its flush has read a run; what the run hangs on is hidden before that is committed."""
    newest = scene.run(6)
    raising = scene.flush("raised")
    assert raising.is_paused
    HIDING[what][0](scene, [newest, newest]).delete()
    others = scene.flush_others()
    raising.finish()
    finish(others)
    scene.shows()


@pytest.mark.parametrize("what", ["a workspace", "a version"])
def test_shown_while_a_row_is_about_to_be_set_back(scene: Scene, what: str) -> None:
    """R5 is deleted, and a flush is about to write R4, or delete the row. R4.5 comes back with what it hangs on; its
    row is raised under the lock, after that."""
    hidden = scene.run(4.5)
    thing = scene.workspace if what == "a workspace" else hidden.edition
    other = scene.run(5)
    scene.settle()
    thing.delete()
    if what == "a version":
        other.delete()
    lowering = scene.flush_others("searched")
    thing.undelete()
    others = scene.flush_others()
    finish(lowering)
    finish(others)
    scene.shows(hidden if what == "a version" else other)


def test_a_queryset(scene: Scene, runs: list[Any]) -> None:
    """The library deletes one by one, each with its signals."""
    Visit.objects.filter(pk__in=[runs[1].pk, runs[3].pk]).delete()
    scene.shows(runs[0], runs[2])
    for model, back in ((Site, [runs[0], runs[2]]), (Edition, [runs[0], runs[2]]), (Page, [])):
        model.objects.all().delete()
        scene.shows()
        model.deleted_objects.all().undelete()
        scene.shows(*back)
