"""The host's models as this package sees them. No other module reads the settings that name them.

``Host.resolve`` follows the settings' names through the host's models once, at start-up. It runs while Django is still
importing models (our own foreign keys need their targets), so it imports the host's ``models`` modules itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ValidationError
from django.db import router
from django.db.models import Field, ForeignKey, Model, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.utils.module_loading import import_string

from workflows_tasks import conf
from workflows_tasks.errors import ConfigurationError
from workflows_tasks.filters import FilterReads


@dataclass(frozen=True, kw_only=True, eq=False)
class Host:
    """The run model and the ways from it to its workspace, user and workflow."""

    run: type[Model]
    workspace: ForeignKey[Any, Any]
    user: Field[Any, Any]
    path: tuple[ForeignKey[Any, Any], ...]
    used_at: Field[Any, Any]
    run_filter: Q
    backfill_filter: Q

    @classmethod
    def resolve(cls, settings: conf.Settings) -> Host:
        """Follow ``settings`` through the host's models.

        Raises:
            ConfigurationError: names the field, hop or filter that does not resolve.
        """
        run = _run_model(settings.run_model)
        return cls(
            run=run,
            workspace=_workspace(run, settings.workspace_field),
            user=_user(run, settings.user_field),
            path=_path(run, settings.published_run_path),
            used_at=_used_at(run, settings.used_at_field),
            run_filter=_filter("RUN_FILTER", settings.run_filter),
            backfill_filter=_filter("BACKFILL_FILTER", settings.backfill_filter),
        )

    @property
    def workflow(self) -> ForeignKey[Any, Any]:
        """The last hop: the foreign key whose column holds the workflow."""
        return self.path[-1]

    @property
    def path_lookup(self) -> str:
        return LOOKUP_SEP.join(hop.name for hop in self.path)

    def lookup_field(self, lookup: str) -> Field[Any, Any]:
        """The column whose value a scope's key is: the last foreign key of a lookup from the run."""
        model, field = self.run, None
        for name in lookup.split(LOOKUP_SEP):
            field = cast("ForeignKey[Any, Any]", model._meta.get_field(name))
            model = field.related_model
        assert field is not None
        return field

    @property
    def database(self) -> str:
        """Alias of the database that both runs and our table are written to. Never a replica: it lags."""
        return router.db_for_write(self.run)

    @cached_property
    def run_key(self) -> Field[Any, Any]:
        """The field that holds the run's primary key. A child model's key is a link to its parent's."""
        return storage_field(self.run._meta.pk)

    @cached_property
    def filter_reads(self) -> FilterReads:
        """The columns that ``RUN_FILTER`` reads, by where they are."""
        return FilterReads.of(self.run, self.run_filter)


def storage_field(field: Any) -> Field[Any, Any]:
    """The field that says how ``field``'s column is stored: the end of its chain of foreign keys."""
    while field.remote_field is not None:
        field = field.target_field
    return cast("Field[Any, Any]", field)


@conf.cached
def host() -> Host:
    """The host's models, as the settings in force name them.

    Raises:
        ConfigurationError: the settings, or what they name in the host's models, cannot be used.
    """
    return Host.resolve(conf.settings())


def problems() -> Iterator[ConfigurationError]:
    """Each independent thing that keeps ``Host.resolve`` from working, and filters that do not compile."""
    settings = conf.settings()
    try:
        run = _run_model(settings.run_model)
    except ConfigurationError as error:
        yield error
        return
    for find in (
        lambda: _workspace(run, settings.workspace_field),
        lambda: _user(run, settings.user_field),
        lambda: _path(run, settings.published_run_path),
        lambda: _used_at(run, settings.used_at_field),
        lambda: _compiles(run, "RUN_FILTER", settings.run_filter),
        lambda: _compiles(run, "BACKFILL_FILTER", settings.backfill_filter),
    ):
        try:
            find()
        except ConfigurationError as error:
            yield error


def _error(key: str, msg: str, hint: str, number: int) -> ConfigurationError:
    return ConfigurationError(f"{conf.NAME}[{key!r}]: {msg}", hint=hint, id=f"recent_workflows.E{number:03}")


def _run_model(label: str) -> type[Model]:
    try:
        run = _model(label)
    except (LookupError, ValueError) as error:
        raise _error(
            "RUN_MODEL",
            f"{label!r} is no model ({error}), so no run is seen.",
            "Name it as 'app_label.Model', with its app in INSTALLED_APPS; if its module imports "
            "workflows_tasks.models, import from workflows_tasks there instead.",
            10,
        ) from error
    run = cast("type[Model]", run._meta.concrete_model)  # a proxy's rows are its model's, however they are written
    if getattr(run._meta.pk, "column", None) is None:
        raise _error(
            "RUN_MODEL",
            f"{label} has a composite primary key, which the table's foreign key cannot point to.",
            "Give it a single-column primary key.",
            10,
        )
    return run


def _model(label: str) -> type[Model]:
    """Return a model while apps may still be loading: models modules are imported on demand, which is idempotent."""
    app_label, _, name = label.partition(".")
    if not name:
        raise ValueError("expected 'app_label.Model'")
    if not apps.models_ready:
        apps.get_app_config(app_label).import_models()
    return apps.get_registered_model(app_label, name)


def _target(field: Any) -> type[Model]:
    """The model a foreign key points to, although it may still be named by a string."""
    target = field.remote_field.model
    if isinstance(target, str):
        _model(target if "." in target else f"{field.model._meta.app_label}.{target}")
    return cast("type[Model]", field.remote_field.model)


def _field(key: str, model: type[Model], name: str, number: int) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist as error:
        names = ", ".join(sorted(f.name for f in model._meta.fields))
        raise _error(
            key,
            f"{name!r} is no field of {model._meta.label}, so no run can be placed.",
            f"Its fields are: {names}.",
            number,
        ) from error


def _foreign_key(key: str, model: type[Model], name: str, number: int) -> ForeignKey[Any, Any]:
    field = _field(key, model, name, number)
    if not isinstance(field, ForeignKey) or field.model._meta.concrete_model is None:
        raise _error(
            key,
            f"{name!r} is no foreign key of {model._meta.label} but a {type(field).__name__}; "
            "no column of it points to another model.",
            "Name a ForeignKey or OneToOneField of that model.",
            number,
        )
    _target(field)
    return field


def _workspace(run: type[Model], name: str) -> ForeignKey[Any, Any]:
    return _foreign_key("WORKSPACE_FIELD", run, name, 11)


def _user(run: type[Model], name: str) -> Field[Any, Any]:
    field = _field("USER_FIELD", run, name, 12)
    if getattr(field, "column", None) is None:
        raise _error(
            "USER_FIELD",
            f"{name!r} has no column on {run._meta.label}, so no trigger can read it.",
            "Name a column or a foreign key of the run.",
            12,
        )
    if field.remote_field is not None:
        _target(field)
    return cast("Field[Any, Any]", field)


def _path(run: type[Model], lookup: str) -> tuple[ForeignKey[Any, Any], ...]:
    hops: list[ForeignKey[Any, Any]] = []
    model = run
    for name in lookup.split(LOOKUP_SEP):
        hops.append(_foreign_key("PUBLISHED_RUN_PATH", model, name, 13))
        model = _target(hops[-1])
    return tuple(hops)


def _used_at(run: type[Model], name: str) -> Field[Any, Any]:
    field = _field("USED_AT_FIELD", run, name, 14)
    if field.get_internal_type() != "DateTimeField":
        raise _error(
            "USED_AT_FIELD",
            f"{name!r} is a {type(field).__name__}; workflows are ordered by a moment.",
            "Name a DateTimeField of the run.",
            14,
        )
    return cast("Field[Any, Any]", field)


def _filter(key: str, value: Q | str) -> Q:
    try:
        q = import_string(value)() if isinstance(value, str) else value
    except Exception as error:  # whatever a host's own code raises
        raise _error(
            key,
            f"{value!r} cannot be imported or called ({type(error).__name__}: {error}); no write would be captured.",
            "Give a Q, or a dotted path to a callable that takes nothing.",
            15,
        ) from error
    if not isinstance(q, Q):
        raise _error(
            key, f"{value!r} returned {q!r}, no Q; no write would be captured.", "Return a django.db.models.Q.", 15
        )
    return q


def _compiles(run: type[Model], key: str, value: Q | str) -> None:
    q = _filter(key, value)
    if FilterReads.of(run, q).clock:
        raise _error(
            key, f"{q} reads the clock: runs would come and go without a write that anybody could see.",
            "Compare with a column instead, or filter where the page is read.", 16,
        )  # fmt: skip
    try:
        QuerySet(run).filter(q).query.get_compiler(router.db_for_write(run)).as_sql()
    except EmptyResultSet as error:
        raise _error(
            key, f"{q} lets no run through, so the table would stay empty.", "Correct the filter.", 15
        ) from error
    except (FieldError, ValidationError, TypeError, ValueError, ArithmeticError) as error:
        raise _error(
            key,
            f"{q} does not compile over {run._meta.label} ({error}); no flush could write.",
            "Correct the filter.",
            15,
        ) from error
