"""Changes that nobody announced, or whose announcement was lost: the sweep finds the recent ones, the audit all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.conftest import Configure
from tests.exactness.scene import Scene
from tests.exactness.stepping import Actor
from tests.exactness.sweeping import PROMPT, counted, server_now, sweep_until_found, use_now
from tests.hosts.adapter import moment
from tests.oracle import flush_all, stored
from tests.waiting import until
from workflows_tasks import announce, conf, inbox, repair
from workflows_tasks.announcements import gather_scope
from workflows_tasks.host import host as resolved
from workflows_tasks.ids import ROWS, Scope

GOING: dict[str, Callable[[Scene, Any], Any]] = {
    "deleted": lambda scene, run: scene.delete_silently(run),
    "hidden": lambda scene, run: scene.update(run, **scene.host.hidden),
    "moved": lambda scene, run: scene.update(run, **{scene.host.workspace_field: scene.beyond}),
    "led on": lambda scene, run: scene.update(run, **scene.host.leading_to(scene.host.make_workflow())),
    "another user's": lambda scene, run: scene.update(run, **{scene.host.user_field: scene.host.make_user()}),
    "set back in time": lambda scene, run: scene.host.set_used_at(run, moment(2)),
}


def named() -> set[Any]:
    return {row.run for row in stored()}


def test_a_run_whose_message_was_lost(swept: Scene) -> None:
    """The sweep finds it, counts it, and has nothing more to say once it is written."""
    lost = use_now(swept, swept.silent_run(0))
    sweep_until_found(1)
    swept.shows(lost)
    assert repair.sweep() == 0
    assert counted("healed") == 1


@pytest.mark.parametrize("how", GOING)
def test_a_row_whose_run_went_silently(swept: Scene, how: str) -> None:
    """The sweep looks at rows, too, page by page of the whole table: of any age, their run must be as they say."""
    older, newest = swept.run(4), swept.run(5)
    swept.settle()
    GOING[how](swept, newest)
    assert repair.sweep() == 1
    swept.settle()
    assert older.pk in named()
    assert repair.sweep() == 0


def test_a_row_whose_user_is_deleted(swept: Scene) -> None:
    """Where runs outlive their user they lose it by a statement of Django's that nobody is told of."""
    user = swept.host.make_user()
    if not hasattr(user, "delete"):
        pytest.skip("this host's users are no rows")
    swept.run(5, user=user)
    assert len(swept.settle()) == 3
    user.delete()
    flush_all()
    repair.sweep()
    assert len(swept.settle()) < 3


def test_rows_are_swept_in_pages_that_start_over_at_the_end(swept: Scene, configure: Any) -> None:
    """With a page of two, each sweep looks at the next two rows of the table; wherever the untrue one is, its turn
    comes."""
    configure(SWEEP_PAGE=2)
    runs = [swept.run(5, workflow=swept.host.make_workflow()) for _ in range(5)]
    swept.settle()
    for run in runs:
        swept.delete_silently(run)
        assert sum(repair.sweep() for _ in range(len(runs) + 2)) == 1
        swept.settle()


def came(scene: Scene, how: str) -> Any:
    """A run of long ago, that is not the latest, comes into a key without a word."""
    if how == "moved in":
        run, _ = scene.run(3, workspace=scene.beyond), scene.run(4, workspace=scene.beyond)
        scene.settle()
        scene.update(run, **{scene.host.workspace_field: scene.earlier})
        return run
    if how == "un-hidden":
        run = scene.run(3, workspace=scene.earlier, hidden=True)
        scene.settle()
        scene.update(run, **scene.host.shown)
        return run
    return scene.silent_run(3, workspace=scene.earlier)


@pytest.mark.parametrize("how", ["moved in", "un-hidden", "late commit"])
def test_ce4_and_ce5_the_audit_finds_what_is_behind_the_watermark(swept: Scene, how: str) -> None:
    """CE4: an update that no signal sees, of a run that is no row's, leaves its time alone. CE5: a message is lost, and
    the commit becomes visible under a time behind the watermark. No row is untrue; one is missing, and only comparing
    with all runs can tell."""
    run = came(swept, how)
    assert repair.sweep() == 0
    assert run.pk not in named()
    assert repair.audit() == 1
    swept.settle()
    assert run.pk in named()
    assert counted("drift") == 1
    assert repair.audit() == 0


def test_a_time_of_the_future_does_not_carry_the_watermark_along(swept: Scene) -> None:
    """A machine's clock is an hour ahead. What others save in that hour is swept as ever; its own runs, whose message
    is lost, are found when their hour has come, or by the audit before that."""
    dreamer = swept.silent_run(0, workspace=swept.beyond)
    swept.host.set_used_at(dreamer, server_now() + timedelta(hours=1))
    repair.sweep()
    lost = use_now(swept, swept.silent_run(0))
    sweep_until_found(1)
    repair.audit()
    swept.settle()
    assert {lost.pk, dreamer.pk} <= named()


def test_threads_that_meet_an_outage_together_each_keep_their_runs(scene: Scene, configure: Configure) -> None:
    """Both have found Redis not to answer, and neither had seen the other's. None of it is left to the sweep."""
    configure(BREAKER_S=0.01)
    url = conf.settings().redis_url
    runs = [scene.silent_run(minute, workspace=at) for minute, at in ((1, scene.workspace), (2, scene.beyond))]
    saving = [Actor(partial(announce, [run]), "about to announce").stands() for run in runs]
    configure(REDIS_URL="redis://127.0.0.1:1")
    for actor in saving:
        actor.finish()
    configure(REDIS_URL=url)
    third = scene.run(3, workspace=scene.earlier)
    until(lambda: announce([third]) and sum(shard.pending for shard in inbox.status()))
    scene.shows(*runs, third)


@pytest.mark.parametrize("look", [repair.sweep, repair.audit], ids=["sweep", "audit"])
def test_scopes_that_never_cease_do_not_keep_it_from_looking(
    swept: Scene, monkeypatch: pytest.MonkeyPatch, look: Callable[[], int]
) -> None:
    """A host deletes versions all day, so that whenever one looks, one of them waits."""
    monkeypatch.setattr(repair, "SCOPES_WITHIN_S", 0.1)
    lost = swept.silent_run(0, workspace=swept.earlier)
    use_now(swept, lost)
    scope = Scope(ROWS, resolved().path_lookup, swept.host.make_workflow().pk)
    gather_scope(scope, using=resolved().database)
    assert until(look) == 1
    swept.settle()
    assert lost.pk in named()


def test_a_sweep_that_finds_very_much_leaves_the_rest_to_the_next(
    swept: Scene, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has them all in memory, and asks Redis about each."""
    configure(SWEEP_PAGE=2)
    monkeypatch.setattr(repair, "MOST", 3)
    lost = [use_now(swept, swept.silent_run(0, workspace=swept.host.make_workspace())) for _ in range(7)]
    made = server_now()
    until(lambda: (server_now() - made).total_seconds() > 5 * PROMPT["SWEEP_OVERLAP_S"])  # none is too new any more
    assert repair.sweep() == 4
    flush_all()
    sweep_until_found(3)
    swept.settle()
    assert named() >= {run.pk for run in lost}
