"""What a host does to its runs, and every way of writing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from django.db import connection, transaction

from tests.endurance.world import World
from workflows_tasks import announce
from workflows_tasks.querysets import AnnouncingQuerySet


@dataclass(frozen=True)
class Use:
    """The run is used at a named moment, or now."""

    at: str | None = None

    def fields(self, world: World) -> dict[str, Any]:
        return {world.host.used_at_field: world.moment(self.at)}


@dataclass(frozen=True)
class Move:
    """The run goes to another workspace."""

    workspace: str | None

    def fields(self, world: World) -> dict[str, Any]:
        return {world.host.workspace_field: world.workspace(self.workspace)}


@dataclass(frozen=True)
class Give:
    """The run goes to another user."""

    user: str | None

    def fields(self, world: World) -> dict[str, Any]:
        return {world.host.user_field: world.user(self.user)}


@dataclass(frozen=True)
class Lead:
    """The run takes another way to a workflow."""

    way: str | None

    def fields(self, world: World) -> dict[str, Any]:
        return world.way(self.way)


@dataclass(frozen=True)
class Hide:
    def fields(self, world: World) -> dict[str, Any]:
        return dict(world.host.hidden)


@dataclass(frozen=True)
class Show:
    def fields(self, world: World) -> dict[str, Any]:
        return dict(world.host.shown)


@dataclass(frozen=True)
class Delete:
    def fields(self, world: World) -> dict[str, Any]:
        return {}


Change: TypeAlias = Use | Move | Give | Lead | Hide | Show | Delete

CREATES: Final = ("save", "mixin", "bulk write, then announce")
WRITES: Final = ("save", "save of those fields", "mixin", "bulk_update of the mixin", "bulk write, then announce")
DELETES: Final = ("instance", "queryset", "mixin")
"""How a change is written so that we are told of it."""

SILENT: Final = "silent bulk write"
"""And how so that we are not."""


def create(world: World, fields: dict[str, Any], *, at: str | None, by: str) -> Any:
    """Make a run; returns its key."""
    model = world.host.run_model
    fields = {world.host.used_at_field: world.moment(at), **fields}
    if by == "mixin" and not model._meta.parents:  # Django does not insert children in bulk
        return _announcing(world).bulk_create([model(**fields)])[0].pk
    if by != "save":
        keys = world.host.insert_runs([fields])
        announce(keys)
        return keys[0]
    run = model(**fields)
    with transaction.atomic():
        world.host.touch(run)
        run.save(force_insert=True)
        world.host.set_used_at(run, world.moment(at))  # auto_now has overruled it
    return run.pk


def write(world: World, runs: Sequence[int], change: Change, by: str) -> None:
    """Make one change to runs; those that are gone stay gone."""
    fields = change.fields(world)
    if by in {"save", "save of those fields"}:
        for run in world.present(runs):
            _save(world, run, fields, whole=by == "save")
    elif by == "bulk_update of the mixin":
        found = world.present(runs)
        for run in found:
            _assign(run, fields)
        _announcing(world).bulk_update(found, list(fields))
    elif by == "mixin":
        _announcing(world).filter(pk__in=world.keys(runs)).update(**fields)
    else:
        world.host.run_model._base_manager.filter(pk__in=world.keys(runs)).update(**fields)
        if by != SILENT:
            announce(world.keys(runs))


def _save(world: World, run: Any, fields: dict[str, Any], *, whole: bool) -> None:
    with transaction.atomic():
        world.host.touch(run)
        _assign(run, fields)
        run.save(update_fields=None if whole else list(fields))
        if world.host.used_at_field in fields:  # auto_now has overruled it
            world.host.set_used_at(run, fields[world.host.used_at_field])


def _assign(run: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(run, name, value)


def delete(world: World, runs: Sequence[int], by: str) -> None:
    """Delete runs."""
    model = world.host.run_model
    found = {"pk__in": world.keys(runs)}
    if by == "instance":
        for run in world.present(runs):
            run.delete()
    elif by == "queryset":
        model._base_manager.filter(**found).delete()
    elif by == "mixin":
        _announcing(world).filter(**found).delete()
    else:
        for part in (model, *model._meta.parents):
            part._base_manager.filter(**found)._raw_delete(connection.alias)


def _announcing(world: World) -> AnnouncingQuerySet[Any]:
    return AnnouncingQuerySet(world.host.run_model)
