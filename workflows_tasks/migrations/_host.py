"""Where the host's models come from, in terms of migrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AddField, CreateModel, RenameField, RenameModel, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from workflows_tasks.host import host


class CreateModelOfHost(CreateModel):
    """Creates a model whose foreign keys point to the host's models, whatever those are called at that moment.

    The settings know their present names. On a database where the host renames them later, they have the earlier ones
    when this is applied.
    """

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        host()  # raises where the settings cannot be used, and says why: the keys would point nowhere
        fields = [(name, _as_named_in(state, field)) for name, field in self.fields]
        CreateModel(self.name, fields, self.options, self.bases, self.managers).state_forwards(app_label, state)


def _as_named_in(state: ProjectState, field: Any) -> Any:
    if field.remote_field is None:
        return field
    _, _, args, kwargs = field.deconstruct()
    present = kwargs["to"], kwargs.get("to_field")
    named = _name_in(state, *present)
    # A copy, for the same operation may be applied to another state later.
    return field if named == present else type(field)(*args, **{**kwargs, "to": named[0], "to_field": named[1]})


def _name_in(state: ProjectState, label: str, field: str | None) -> tuple[str, str | None]:
    """What a model, and a field of it, are called in a state: their present names, or earlier ones."""
    app, _, model = label.partition(".")
    for past_model, past_field in _names(app, model, field):
        found = state.models.get((app, past_model))
        if found is not None and (past_field is None or past_field in found.fields):
            return f"{app}.{past_model}", past_field
    return label, field


def creating_migrations(targets: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The migrations that created each target, by whatever name; none for an app without migrations.

    ``__first__`` would be too early where a model came later. ``__latest__``, or the migration that renamed a model,
    would be added after ours is applied, which Django refuses (``InconsistentMigrationHistory``).

    Args:
        targets: ``to`` and perhaps ``to_field`` of each foreign key; ``self`` needs no migration.
    """
    wanted = {(*target["to"].split("."), target.get("to_field")) for target in targets if "." in target["to"]}
    found = {(app, name) for app, model, field in wanted for name in _creating(str(app), str(model), field)}
    return sorted((str(app), name) for app, name in found)


def _creating(app_label: str, model: str, field: str | None) -> Iterator[str]:
    """The migration that created the model, and the one that added its field later, if one did."""
    for name, operation in _newest_first(app_label):
        if isinstance(operation, RenameField) and (operation.model_name_lower, operation.new_name) == (model, field):
            field = operation.old_name
        elif isinstance(operation, RenameModel) and operation.new_name_lower == model:
            model = operation.old_name_lower
        elif isinstance(operation, AddField) and (operation.model_name_lower, operation.name) == (model, field):
            yield name
        elif isinstance(operation, CreateModel) and operation.name_lower == model:
            yield name
            return


def _names(app_label: str, model: str, field: str | None) -> Iterator[tuple[str, str | None]]:
    """What a model and a field of it are called, the present names first."""
    yield model, field
    for _, operation in _newest_first(app_label):
        if isinstance(operation, RenameField) and (operation.model_name_lower, operation.new_name) == (model, field):
            field = operation.old_name
        elif isinstance(operation, RenameModel) and operation.new_name_lower == model:
            model = operation.old_name_lower
        else:
            continue
        yield model, field


def _newest_first(app_label: str) -> Iterator[tuple[str, Operation]]:
    """The operations of an app's migrations, each with its migration's name."""
    module, _ = MigrationLoader.migrations_module(app_label)
    for name, migration in sorted(_migrations(module), key=lambda each: each[0], reverse=True) if module else ():
        for operation in reversed(list(_flat(migration.operations))):
            yield name, operation


def _flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _flat(operation.state_operations)
        else:
            yield operation


def _migrations(package: str) -> Iterator[tuple[str, type[Migration]]]:
    try:
        path = import_module(package).__path__
    except (ImportError, AttributeError):
        return  # an app without migrations
    for _, name, is_package in iter_modules(path):
        if not is_package and name[0] not in "_~":
            yield name, import_module(f"{package}.{name}").Migration
