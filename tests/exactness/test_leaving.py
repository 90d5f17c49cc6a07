"""Every way in which a run leaves a key that it is the latest of, or comes into one, by the host's own writes.

The row gets the next newest run, or goes; the key that the run comes into gets it. One scene for all ways: two
workflows, two workspaces of different shards, and a run of each, older and newer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.exactness.scene import Scene
from tests.exactness.stepping import WRITTEN, Actor, open_transaction, pause_here
from tests.exactness.test_lowering import HAS_VERSIONS
from tests.hosts.adapter import moment
from tests.oracle import flush_all, stored
from workflows_tasks import inbox
from workflows_tasks.host import host as resolved


class Crossing:
    """Older and newer runs of two workflows in workspaces of two shards; all of it is in the table."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.host = scene, scene.host
        self.other_workflow = scene.host.make_workflow()
        self.other_user = scene.host.make_user()
        self.runs = {
            (workspace.pk, workflow.pk, minute): scene.run(minute, workspace=workspace, workflow=workflow)
            for minute in (1, 5)
            for workspace in (scene.workspace, scene.beyond)
            for workflow in (scene.workflow, self.other_workflow)
        }
        scene.settle()
        assert len(stored()) == 8
        self.older = self.runs[scene.workspace.pk, scene.workflow.pk, 1]
        self.newest = self.runs[scene.workspace.pk, scene.workflow.pk, 5]

    def runs_of(self, *parts: Any) -> Any:
        """The runs of a workspace or workflow, or both, as a queryset."""
        keys = [run.pk for key, run in self.runs.items() if {part.pk for part in parts} <= set(key[:2])]
        return self.host.run_model._base_manager.filter(pk__in=keys)

    def version(self, run: Any) -> Any:
        """What the run itself points to on its way to a workflow."""
        return getattr(run, resolved().path[0].name)

    def last_hop(self, run: Any) -> Any:
        """What points to the workflow."""
        *hops, _ = resolved().path
        for hop in hops:
            run = getattr(run, hop.name)
        return run


@pytest.fixture
def crossing(scene: Scene) -> Crossing:
    return Crossing(scene)


def hide_and_come_back(crossing: Crossing) -> None:
    crossing.host.hide(crossing.newest)
    flush_all()
    crossing.host.unhide(crossing.newest)


def delete_all(crossing: Crossing) -> None:
    for run in crossing.runs.values():
        run.delete()


def lead_every_version_on(crossing: Crossing) -> None:
    for run in crossing.runs.values():
        crossing.scene.lead_on(run, crossing.other_workflow)


WAYS: dict[str, tuple[Callable[[Crossing], Any], int]] = {
    "a run is deleted": (lambda c: c.newest.delete(), 8),
    "the last run is deleted": (lambda c: c.runs_of(c.scene.workspace, c.scene.workflow).delete(), 6),
    "a queryset is deleted": (lambda c: c.runs_of(c.scene.workflow).delete(), 4),
    "all are deleted": (delete_all, 0),
    "a run is hidden": (lambda c: c.host.hide(c.newest), 8),
    "a run is hidden and shown again": (hide_and_come_back, 8),
    "a run moves to a workspace of another shard": (lambda c: c.host.move_to_workspace(c.newest, c.scene.beyond), 8),
    "a run moves to a workspace of its own shard": (lambda c: c.host.move_to_workspace(c.newest, c.scene.earlier), 10),
    "a run moves to another user": (lambda c: c.host.move_to_user(c.newest, c.other_user), 9),
    "a run moves to another workflow": (lambda c: c.host.move_to_workflow(c.newest, c.other_workflow), 8),
    "a run moves everywhere at once": (
        lambda c: c.host.move(
            c.newest,
            **{c.host.workspace_field: c.scene.beyond, c.host.user_field: c.other_user},
            **c.host.leading_to(c.other_workflow),
        ),
        9,
    ),
    "a version leads to another workflow": (lambda c: c.scene.lead_on(c.newest, c.other_workflow), 8),
    "every version leads to another workflow": (lead_every_version_on, 4),
    "a version is deleted": (lambda c: c.version(c.newest).delete(), 8),
    "what points to the workflow is deleted": (lambda c: c.last_hop(c.newest).delete(), 8),
    "a workflow is deleted": (lambda c: c.scene.workflow.delete(), 4),
    "a workspace is deleted": (lambda c: c.scene.workspace.delete(), 4),
    "workspace and workflow are deleted": (lambda c: (c.scene.workspace.delete(), c.scene.workflow.delete()), 2),
}


def ways() -> list[str]:
    """Where a run points to its workflow itself there is no version to delete or lead on."""
    of_versions = {name for name in WAYS if "version" in name or "what points" in name}
    return [name for name in WAYS if len(resolved().path) > 1 or name not in of_versions]


@pytest.mark.parametrize("way", ways())
def test_exact_after(crossing: Crossing, way: str) -> None:
    """The change is announced, the flushes put every key right, and nothing is left to do."""
    leave, rows = WAYS[way]
    leave(crossing)
    assert len(crossing.scene.settle()) == rows
    assert not any(shard.pending or shard.claims or shard.aside for shard in inbox.status())


@pytest.mark.parametrize("way", ways())
def test_exact_after_an_interrupted_flush_and_a_repeated_one(crossing: Crossing, way: str) -> None:
    """The same with each flush made twice, the first of them broken off before its commit."""
    leave, rows = WAYS[way]
    leave(crossing)
    for shard in inbox.status():
        if shard.pending:
            claim = inbox.claim(shard.shard)
            assert claim is not None
            inbox.release(shard.shard, [claim.token])
            inbox.add(dict.fromkeys(claim.announced_ms, (shard.shard + 1) % len(inbox.status())), mark=False)
    assert len(crossing.scene.settle()) == rows


def test_a_deleted_run_does_not_read_large_columns(crossing: Crossing) -> None:
    """One run, and runs that a cascade takes along."""
    with CaptureQueriesContext(connection) as captured:
        crossing.scene.in_part(crossing.newest).delete()
        crossing.scene.workspace.delete()
        crossing.scene.workflow.delete()
    column = connection.ops.quote_name(crossing.host.large_column)
    assert not [query["sql"] for query in captured if query["sql"].startswith("SELECT") and column in query["sql"]]


@pytest.mark.skipif(not HAS_VERSIONS, reason="runs point to their workflow themselves")
def test_a_version_is_led_on_twice_at_once(scene: Scene) -> None:
    """Two admins point one version to two workflows, W2 and then W3. The second knows the version as it was before
    the first, so it names the workflow that it was of then, not W2, as what its runs leave. In between a flush has
    written W2's rows. W3 has newer runs, so that nothing of the version rises there."""
    second, third = scene.host.make_workflow(), scene.host.make_workflow()
    run, newer = scene.run(5), scene.run(9, workflow=third)
    scene.settle()
    with open_transaction(lambda: scene.lead_on(run, second)) as commit:
        leading: Actor[None] = Actor(lambda: _lead_on_and_stay(scene, run.pk, third), WRITTEN).stands()
        assert leading.waits
        commit()
    assert leading.stands().is_paused
    scene.shows(run, newer)
    leading.finish()
    scene.shows(newer)


def _lead_on_and_stay(scene: Scene, pk: Any, workflow: Any) -> None:
    with transaction.atomic():
        scene.lead_on(scene.fresh(pk), workflow)
        pause_here()


def test_a_backdated_run_gives_its_key_up_and_takes_it_again(crossing: Crossing) -> None:
    """Saved with an older time by the ordinary way, then used again."""
    host = crossing.host
    host.set_used_at(crossing.newest, moment(0))
    host.hide(crossing.newest)
    host.unhide(crossing.newest)
    host.set_used_at(crossing.newest, moment(0))
    crossing.scene.settle()
    host.save_again(crossing.newest)
    assert crossing.newest.pk in {row.run for row in crossing.scene.settle()}


@pytest.mark.skipif(not HAS_VERSIONS, reason="this host's runs point to their workflow")
def test_a_version_is_led_on_by_its_key_alone(scene: Scene) -> None:
    """It is not loaded but made, with the key of one that is there: Django updates that row."""
    elsewhere = scene.host.make_workflow()
    led_on, stays = scene.run(1), scene.run(2)
    scene.settle()
    *hops, last = resolved().path
    version = led_on
    for hop in hops:
        version = getattr(version, hop.name)
    fields = {field.attname: getattr(version, field.attname) for field in version._meta.concrete_fields}
    type(version)(**{**fields, last.attname: elsewhere.pk}).save()
    scene.shows(led_on, stays)
