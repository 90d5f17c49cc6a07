"""Every kind of write that Django makes is captured: the table is exact after it by flushes, without tick or audit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import models, transaction

from tests import hosts
from tests.hosts.adapter import moment
from tests.integration.capture.sample import Sample, logged, new_key
from workflows_tasks.host import host as resolved

IS_CHILD = bool(hosts.current().run_model._meta.parents)
"""The run model is a multi-table child, which Django does not insert in bulk."""

WITHOUT_PARENT = pytest.mark.skipif(IS_CHILD, reason="Django inserts no multi-table children in bulk")


def related(sample: Sample, instance: Any, field: Any) -> Any:
    """The manager of the runs that point to an instance by a foreign key."""
    return getattr(instance, field.remote_field.get_accessor_name())


def create(sample: Sample) -> None:
    host = sample.host
    fields = {host.workspace_field: sample.workspace, host.user_field: sample.user, **host.shown}
    sample.host.run_model._base_manager.create(
        **fields, **host.leading_to(host.make_workflow()), pk=new_key(sample), **{host.used_at_field: moment(9)}
    )


def save_to(field: str, value: Callable[[Sample], Any]) -> Callable[[Sample], None]:
    """Write a field of the newest run by ``save(update_fields=...)``."""

    def write(sample: Sample) -> None:
        name = getattr(sample.host, field)
        setattr(sample.newest, name, value(sample))
        sample.newest.save(update_fields=[name])

    return write


def update_to(**values: Callable[[Sample], Any]) -> Callable[[Sample], None]:
    """Write fields of the two newest runs by ``QuerySet.update()``, which sends no signal."""

    def write(sample: Sample) -> None:
        fields = {getattr(sample.host, name): value(sample) for name, value in values.items()}
        assert sample.several(sample.newest, sample.older).update(**fields) == 2

    return write


def update_workflow(sample: Sample) -> None:
    sample.several(sample.newest).update(**sample.host.leading_to(sample.another))


def hide_by_update(sample: Sample) -> None:
    sample.several(sample.newest, sample.far).update(**sample.host.hidden)


def hide_and_show(sample: Sample) -> None:
    hide_by_update(sample)
    sample.check()
    sample.several(sample.newest).update(**sample.host.shown)


def bulk_update(sample: Sample) -> None:
    host = sample.host
    setattr(sample.newest, host.workspace_field, sample.other_workspace)
    setattr(sample.older, host.used_at_field, moment(9))
    runs = [sample.newest, sample.older]
    assert sample.several().bulk_update(runs, [host.workspace_field, host.used_at_field]) == 2


def bulk_create(sample: Sample) -> None:
    sample.host.make_runs(
        6,
        workspaces=[sample.workspace, sample.other_workspace],
        workflows=[sample.host.make_workflow()],
        users=[sample.user, sample.colleague],
    )


WRITES: dict[str, Callable[[Sample], object]] = {
    "create": create,
    "save": lambda sample: sample.host.save_again(sample.colleagues),
    "save to another workspace": lambda sample: sample.host.move_to_workspace(sample.newest, sample.other_workspace),
    "save to another user": lambda sample: sample.host.move_to_user(sample.newest, sample.colleague),
    "save to another workflow": lambda sample: sample.host.move_to_workflow(sample.newest, sample.another),
    "save of update_fields": save_to("used_at_field", lambda _: moment(0)),
    "save that hides": lambda sample: sample.host.hide(sample.newest),
    "bulk_create": bulk_create,
    "bulk_update": bulk_update,
    "update of the workspace": update_to(workspace_field=lambda sample: sample.other_workspace),
    "update of the user": update_to(user_field=lambda sample: sample.colleague),
    "update of the time, downwards": update_to(used_at_field=lambda _: moment(0)),
    "update of the time, upwards": update_to(used_at_field=lambda _: moment(9)),
    "update by an expression": update_to(
        used_at_field=lambda sample: models.F(sample.host.used_at_field) - timedelta(hours=1)
    ),
    "update of the workflow": update_workflow,
    "update of the filter's column": hide_by_update,
    "update of the filter's column, and back": hide_and_show,
}


@pytest.mark.parametrize("write", WRITES)
def test_it_is_captured(sample: Sample, write: str) -> None:
    with sample.written():
        WRITES[write](sample)


@pytest.mark.where_allowed("workspace")
@pytest.mark.parametrize("field", ["workspace_field", "user_field"])
def test_a_column_that_becomes_null_is_captured(sample: Sample, field: str) -> None:
    with sample.written():
        sample.several(sample.newest).update(**{getattr(sample.host, field): None})
    with sample.written():
        sample.several().update(**{getattr(sample.host, field): None})


@WITHOUT_PARENT
def test_bulk_create_that_ignores_conflicts_is_captured(sample: Sample) -> None:
    """One of the two is there already, and stays as it is."""
    fresh = _like(sample.newest, pk=new_key(sample), **{sample.host.used_at_field: moment(9)})
    there = _like(sample.newest, pk=sample.older.pk, **{sample.host.used_at_field: moment(99)})
    with sample.written():
        sample.several().bulk_create([fresh, there], ignore_conflicts=True)


@pytest.mark.parametrize("moves", [True, False])
def test_bulk_create_that_updates_conflicts_is_captured(sample: Sample, moves: bool) -> None:
    """Keys are made by the client. Django sends no signal for any of it. In a multi-table host the parents conflict."""
    host, model = sample.host, sample.host.alias_model if IS_CHILD else sample.host.run_model
    workspace = {host.workspace_field: sample.other_workspace} if moves and not IS_CHILD else {}
    moved = {**workspace, host.used_at_field: moment(9 if moves else 0)}
    runs = [_like(run, model, **moved) for run in (sample.newest, sample.colleagues)]
    if not IS_CHILD:
        runs.append(_like(sample.newest, pk=new_key(sample), **{host.used_at_field: moment(10)}))
    with sample.written():
        model._base_manager.bulk_create(
            runs, update_conflicts=True, unique_fields=[model._meta.pk.name], update_fields=list(moved)
        )


def _like(run: Any, model: Any = None, **fields: Any) -> Any:
    """An instance like a run that was saved, with other values here and there."""
    model = model or type(run)
    values = {field.attname: getattr(run, field.attname) for field in model._meta.concrete_fields}
    made = model(**values)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_add_by_a_related_manager_is_captured(sample: Sample) -> None:
    manager = related(sample, sample.other_workspace, resolved().workspace)
    with sample.written():
        manager.add(sample.newest, sample.other)  # by one UPDATE, without a signal
    with sample.written():
        manager.add(sample.older, bulk=False)


@pytest.mark.where_allowed("workspace", "workflow")
@pytest.mark.parametrize("field", ["workspace", "path"])
def test_remove_clear_and_set_by_a_related_manager_are_captured(sample: Sample, field: str) -> None:
    hop = resolved().workspace if field == "workspace" else resolved().path[0]
    first, second = getattr(sample.newest, hop.name), getattr(sample.far, hop.name)
    with sample.written():
        related(sample, first, hop).remove(sample.newest)
    with sample.written():
        related(sample, second, hop).set([sample.newest, sample.colleagues])
    with sample.written():
        related(sample, second, hop).clear()


@pytest.mark.where_allowed("alias")
def test_writes_through_a_proxy_or_a_parent_are_captured(sample: Sample) -> None:
    host = sample.host
    alias = host.alias_model._base_manager.get(pk=sample.newest.pk)
    setattr(alias, host.used_at_field, moment(0))
    with sample.written():
        alias.save()
    with sample.written():
        host.alias_model._base_manager.filter(pk__in=[sample.older.pk, sample.far.pk]).update(**host.hidden)
    with sample.written():
        host.alias_model._base_manager.get(pk=sample.colleagues.pk).delete()


def test_writes_of_runs_that_the_base_manager_leaves_out_are_captured(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's own writes go through ``_base_manager``. What that leaves out is in the table all the same."""

    class WithoutNewest(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().exclude(pk=sample.newest.pk)

    manager = WithoutNewest()
    manager.model = sample.host.run_model
    monkeypatch.setattr(sample.host.run_model._meta, "base_manager", manager)
    with sample.written():
        sample.several(sample.newest).update(**{sample.host.used_at_field: moment(9)})
    with sample.written():  # only the one that the manager shows
        related(sample, sample.other_workspace, resolved().workspace).add(sample.newest, sample.older)
    with sample.written():
        sample.several(sample.newest).delete()


def test_savepoints_that_are_rolled_back_leave_no_change(sample: Sample) -> None:
    host = sample.host
    with sample.written(), transaction.atomic():
        host.move_to_workspace(sample.far, sample.workspace)
        with transaction.atomic():
            host.move_to_workspace(sample.newest, sample.other_workspace)
            sample.several(sample.older).update(**host.hidden)
            transaction.set_rollback(True)
        with transaction.atomic():
            sample.several(sample.other).delete()
    with transaction.atomic():
        host.move_to_workspace(sample.older, sample.other_workspace)
        transaction.set_rollback(True)
    assert logged() == 0


def test_what_touches_nothing_relevant_writes_no_change(sample: Sample) -> None:
    host = sample.host
    host.save_irrelevant(sample.newest)
    sample.several().update(**{host.large_column: "x"})
    sample.several().update(**{host.used_at_field: models.F(host.used_at_field), **host.shown})
    for instance, hop in sample.hops(sample.newest):
        type(instance)._base_manager.filter(pk=instance.pk).update(**{hop.name: models.F(hop.attname)})
    assert logged() == 0
