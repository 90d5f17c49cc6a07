"""Where the host's models come from, in terms of migrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AddField, CreateModel, RenameField, RenameModel, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation


def creating_migrations(targets: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The migrations that gave each target its present name; none for an app without migrations.

    ``__first__`` would be too early where a model came later, and ``__latest__`` would move with every migration the
    host adds, which Django refuses once ours is applied (``InconsistentMigrationHistory``).

    Args:
        targets: ``to`` and perhaps ``to_field`` of each foreign key; ``self`` needs no migration.
    """
    wanted = {(*target["to"].split("."), target.get("to_field")) for target in targets if "." in target["to"]}
    found = {(app, name) for app, model, field in wanted for name in _naming(str(app), str(model), field)}
    return sorted((str(app), name) for app, name in found)


def _naming(app_label: str, model: str, field: str | None) -> Iterator[str]:
    """The newest migration that names the model, and the newest that names its field."""
    module, _ = MigrationLoader.migrations_module(app_label)
    if module is None:
        return
    newest_first = sorted(_migrations(module), key=lambda item: item[0], reverse=True)
    for wanted in ((model, None), (model, field)) if field else ((model, None),):
        for name, migration in newest_first:
            if wanted in set(_named_by(migration.operations)):
                yield name
                break


def _migrations(package: str) -> Iterator[tuple[str, type[Migration]]]:
    try:
        path = import_module(package).__path__
    except (ImportError, AttributeError):
        return  # an app without migrations
    for _, name, is_package in iter_modules(path):
        if not is_package and name[0] not in "_~":
            yield name, import_module(f"{package}.{name}").Migration


def _named_by(operations: Iterable[Operation]) -> Iterator[tuple[str, str | None]]:
    """(model, None) for each model that operations name, (model, field) for each field they add or rename later."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _named_by(operation.state_operations)
        elif isinstance(operation, CreateModel):
            yield operation.name_lower, None
        elif isinstance(operation, RenameModel):
            yield operation.new_name_lower, None
        elif isinstance(operation, AddField):
            yield operation.model_name_lower, operation.name
        elif isinstance(operation, RenameField):
            yield operation.model_name_lower, operation.new_name
