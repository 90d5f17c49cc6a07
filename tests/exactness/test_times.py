"""Times that do not go forwards: set back, tied, wrong by an hour, or of the future."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.expressions import RawSQL
from django.utils import timezone

from tests.conftest import Configure
from tests.exactness.scene import TABLE, Scene
from tests.exactness.sweeping import sweep_until_found, use_now
from tests.hosts.adapter import moment
from tests.oracle import flush_all
from workflows_tasks import announce, repair
from workflows_tasks.models import Bookmark


def set_back(scene: Scene, run: Any, minute: float) -> None:
    """A run's time goes back, by a statement that is announced."""
    scene.host.set_used_at(run, moment(minute))
    announce([run])


def test_ce2_the_latest_runs_time_goes_back(scene: Scene) -> None:
    """An upsert that only goes upwards keeps what the run said before; that the row is older than its run is now
    looked for like a deleted run."""
    older, newest = scene.run(4), scene.run(5)
    scene.settle()
    set_back(scene, newest, 4.5)
    scene.shows(newest)
    set_back(scene, newest, 3)
    scene.shows(older)


def test_ce2_the_time_goes_back_while_a_flush_is_about_to_write_it(scene: Scene) -> None:
    """A flush has read R5 and is about to commit it as of minute 5; the run is now of minute 3."""
    older = scene.run(4)
    scene.settle()
    newest = scene.run(5)
    raising = scene.flush("raised")
    assert raising.is_paused
    set_back(scene, newest, 3)
    following = scene.flush()
    raising.finish()
    following.finish()
    scene.shows(older)


@pytest.mark.parametrize("higher_key_first", [True, False])
def test_a_tie_goes_to_the_higher_key_and_back(scene: Scene, higher_key_first: bool) -> None:
    """Both runs are of one moment, flushed one after the other in either order of their keys; then the winner goes."""
    made = [scene.run(5, hidden=True) for _ in range(2)]
    runs = scene.host.run_model._base_manager.filter(pk__in=[run.pk for run in made])
    low, high = runs.order_by("pk")
    first, second = (high, low) if higher_key_first else (low, high)
    for run, winner in ((first, first), (second, high)):
        scene.host.unhide(run)
        scene.shows(winner)
    high.delete()
    scene.shows(low)


def test_a_tie_is_broken_in_one_flush(scene: Scene) -> None:
    """The same with many runs in one statement, and each winner gone in turn."""
    made = [scene.run(5) for _ in range(4)]
    for winner in scene.host.run_model._base_manager.filter(pk__in=[run.pk for run in made]).order_by("-pk"):
        scene.shows(winner)
        winner.delete()
    scene.shows()


def test_a_tie_is_broken_against_a_run_that_a_fill_wrote(scene: Scene) -> None:
    """Whichever of fill and flush comes last: what is not above the row in both time and key does not replace it."""
    from workflows_tasks import projection

    made = [scene.silent_run(5) for _ in range(3)]
    high = scene.host.run_model._base_manager.filter(pk__in=[run.pk for run in made]).order_by("pk").last()
    assert projection.fill() == (2, [])
    announce(made)
    scene.shows(high)
    assert projection.fill() == (0, [])


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_machines_clock_is_wrong_by_an_hour(scene: Scene, hours: int) -> None:
    """The host's times are taken as they are: the order of the runs is theirs, also for what is deleted later."""
    now = timezone.now() if moment(0).tzinfo else timezone.now().replace(tzinfo=None)
    right, wrong = scene.run(1), scene.run(2)
    for run, at in ((right, now), (wrong, now + timedelta(hours=hours))):
        scene.host.set_used_at(run, at)
    first, second = (wrong, right) if hours > 0 else (right, wrong)
    scene.shows(first)
    first.delete()
    scene.shows(second)


def test_a_time_of_the_future_gives_way_when_it_is_corrected(scene: Scene) -> None:
    """A run of next year hides others as long as it says so, and no longer."""
    honest, dreamer = scene.run(5), scene.run(500_000)
    scene.shows(dreamer)
    later = scene.run(6)
    scene.shows(dreamer)
    set_back(scene, dreamer, 4)
    scene.shows(later)
    later.delete()
    scene.shows(honest)


def at_instant(scene: Scene, run: Any, instant: str) -> Any:
    """Set a run's time as the database has it, whatever zone the host thinks in; nobody says so."""
    scene.update(run, **{scene.host.used_at_field: RawSQL("%s::timestamptz", [instant])})
    return run


def test_rows_are_set_back_in_the_hour_that_clocks_are_set_back(scene: Scene) -> None:
    """In New York the quarter past one is twice that night. A host that stores no zones reads both as the same moment:
    a row is still as it was read, and what is written is what was found, although Python cannot tell."""
    first, second, third = (scene.run(minute) for minute in (1, 2, 3))
    at_instant(scene, first, "2025-11-02 05:15+00")
    at_instant(scene, second, "2025-11-02 06:15+00")
    at_instant(scene, third, "2025-11-02 06:45+00")
    announce([first, second, third])
    flush_all()
    for gone, (left, instant) in ((third, (second, "06:15")), (second, (first, "05:15"))):
        gone.delete()
        flush_all()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT last_run_id, last_used_at = '2025-11-02 {instant}+00'::timestamptz FROM {TABLE}")
            assert cursor.fetchall() == [(left.pk, True)] * 2


def test_the_sweep_goes_on_in_the_hour_that_clocks_are_set_back(swept: Scene, configure: Configure) -> None:
    """One run a page, from a watermark of that night: none is passed over, and none is come back to."""
    configure(SWEEP_PAGE=1)
    position = {"used_at": "2025-11-02T05:00:00+00:00", "run": None}
    Bookmark.objects.filter(name=repair.RUNS).update(position=position)
    swept.workflow = swept.host.make_workflow()
    places = {"05:20": swept.workspace, "05:40": swept.earlier, "06:20": swept.beyond}
    for instant, workspace in places.items():
        at_instant(swept, swept.silent_run(0, workspace=workspace), f"2025-11-02 {instant}+00")
    swept.workflow = swept.host.make_workflow()
    last = use_now(swept, swept.silent_run(0))
    sweep_until_found(4)
    assert last.pk in {row.run for row in swept.settle()}
