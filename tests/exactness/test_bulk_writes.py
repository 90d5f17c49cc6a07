"""The queryset mixin: writes that Django sends no signal for announce the runs they touch, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from tests import hosts
from tests.exactness.scene import Scene
from tests.exactness.stepping import locked
from tests.hosts.adapter import moment
from tests.oracle import stored
from workflows_tasks import announcements, inbox
from workflows_tasks.querysets import AnnouncingQuerySet


def announcing(scene: Scene, *runs: Any) -> AnnouncingQuerySet[Any]:
    """The runs, or all, as a host's manager gives them that is made of the mixin."""
    queryset: AnnouncingQuerySet[Any] = AnnouncingQuerySet(scene.host.run_model)
    return queryset.filter(pk__in=[run.pk for run in runs]) if runs else queryset


def pending() -> int:
    return sum(shard.pending for shard in inbox.status())


IS_CHILD = bool(hosts.current().run_model._meta.parents)


@pytest.fixture
def runs(scene: Scene) -> list[Any]:
    """Three runs, a minute apart, in the table."""
    made = [scene.run(minute) for minute in (1, 2, 3)]
    scene.settle()
    return made


def test_update_out_of_the_very_queryset(scene: Scene, runs: list[Any]) -> None:
    """The rows that the update takes out of its queryset are announced, too: they were named before it."""
    shown = announcing(scene).filter(**scene.host.shown)
    assert shown.filter(pk=runs[2].pk).update(**scene.host.hidden) == 1
    scene.shows(runs[1])
    assert shown.update(**scene.host.hidden) == 2
    scene.shows()
    assert announcing(scene, *runs).update(**scene.host.shown) == 3
    scene.shows(runs[2])


def test_update_of_everything_a_key_is_made_of(scene: Scene, runs: list[Any]) -> None:
    """Workspace, user, workflow and time, each to where another run is already."""
    host = scene.host
    there = scene.run(9, workspace=scene.beyond, workflow=host.make_workflow())
    scene.settle()
    for fields in (
        {host.workspace_field: scene.beyond},
        {host.user_field: host.make_user()},
        host.leading_to(host.make_workflow()),
        {host.used_at_field: moment(0)},
    ):
        announcing(scene, runs[2]).update(**fields)
        scene.settle()
    scene.shows(runs[1], runs[2], there)


def test_update_of_an_ordered_queryset_with_joins(scene: Scene, runs: list[Any]) -> None:
    """The mixin locks rows by a query of its own; what the host's queryset is made of must not matter to it."""
    workspace = scene.host.workspace_field
    joined = announcing(scene).select_related(workspace).order_by(f"-{scene.host.used_at_field}")
    mine = joined.filter(**{f"{workspace}__pk": scene.workspace.pk}).distinct()
    assert mine.update(**scene.host.hidden) == 3
    scene.shows()


def test_update_announces_nothing_that_rolls_back(scene: Scene, runs: list[Any]) -> None:
    with transaction.atomic():
        announcing(scene, *runs).update(**scene.host.hidden)
        transaction.set_rollback(True)
    assert pending() == 0
    scene.shows(runs[2])


def test_update_of_nothing(scene: Scene) -> None:
    assert announcing(scene).update(**scene.host.hidden) == 0
    assert announcing(scene).none().update(**scene.host.hidden) == 0
    assert pending() == 0


def test_bulk_update(scene: Scene, runs: list[Any]) -> None:
    for run, minute in zip(runs, (7, 6, 5), strict=True):
        setattr(run, scene.host.used_at_field, moment(minute))
    assert announcing(scene).bulk_update(runs, [scene.host.used_at_field]) == 3
    assert pending() == 3
    scene.shows(runs[0])


def test_async_update(scene: Scene, runs: list[Any]) -> None:
    """``aupdate`` and ``abulk_update`` are made of the others."""

    async def write() -> None:
        await announcing(scene, runs[2]).aupdate(**scene.host.hidden)
        setattr(runs[0], scene.host.used_at_field, moment(8))
        await announcing(scene).abulk_update([runs[0]], [scene.host.used_at_field])

    run_async(write)
    assert pending() == 2
    scene.shows(runs[0])


def test_delete(scene: Scene, runs: list[Any]) -> None:
    """All the rows, and no large column."""
    with CaptureQueriesContext(connection) as captured:
        announcing(scene, runs[2]).delete()
        announcing(scene, runs[1]).filter(**scene.host.shown).order_by("pk").delete()
    column = connection.ops.quote_name(scene.host.large_column)
    assert not [query["sql"] for query in captured if column in query["sql"]]
    scene.shows(runs[0])
    run_async(lambda: announcing(scene).adelete())
    scene.shows()


def run_async(write: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def run() -> None:
        await write()
        await sync_to_async(connections.close_all)()  # that of the thread in which Django has done it

    asyncio.run(run())


def unsaved(scene: Scene, minute: float) -> Any:
    host = scene.host
    fields = {host.workspace_field: scene.workspace, host.user_field: scene.user, **host.leading_to(scene.workflow)}
    return host.run_model(**fields, **host.shown, **{host.used_at_field: moment(minute)})


@pytest.mark.skipif(IS_CHILD, reason="Django does not insert children of other models in bulk")
def test_bulk_create(scene: Scene, runs: list[Any]) -> None:
    made = announcing(scene).bulk_create([unsaved(scene, minute) for minute in (7, 9, 8)])
    assert pending() == 3
    assert len(scene.settle()) == 2
    assert {row.run for row in stored()} <= {run.pk for run in made}


def test_update_does_not_wait_for_who_points_to_a_run(scene: Scene, runs: list[Any]) -> None:
    """Another transaction has inserted a row that references the run, and stays open: a plain update goes on."""
    table, key = scene.host.run_model._meta.db_table, scene.host.run_model._meta.pk.column
    with locked(f'SELECT FROM {table} WHERE "{key}" = %s FOR KEY SHARE', runs[2].pk), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
        announcing(scene, runs[2]).update(**{scene.host.user_field: scene.host.make_user()})
        cursor.execute("RESET lock_timeout")
    scene.settle()


def test_an_order_of_the_hosts_that_joins_is_no_order_to_lock_in(
    scene: Scene, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL locks no rows of the nullable side of a join, and Django's own update leaves the order out."""
    joining = [
        f"{key.name}__{field.name}"
        for key in scene.host.run_model._meta.concrete_fields
        if key.is_relation and key.null
        for field in key.related_model._meta.concrete_fields
        if not field.primary_key and not field.is_relation
    ]
    if not joining:
        pytest.skip("this host's runs have no such order")
    monkeypatch.setattr(scene.host.run_model._meta, "ordering", joining[:1])
    assert announcing(scene, *runs).update(**scene.host.hidden) == 3
    scene.shows()


def test_an_update_is_not_harmed_by_an_announcement_that_fails(
    scene: Scene, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database, in the middle of the update's transaction: what the host wrote is committed all the same."""

    def refused(*_: object) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return []

    monkeypatch.setattr(announcements, "_placed", refused)
    assert announcing(scene, *runs).update(**scene.host.hidden) == 3
    shown = scene.host.run_model._base_manager.filter(pk__in=[run.pk for run in runs], **scene.host.shown)
    assert not shown.exists()
