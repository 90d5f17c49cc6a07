"""Deletes are captured: of runs, and of whatever runs point to, by Django or by the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import models, transaction

from tests.hosts.adapter import moment
from tests.integration.capture.sample import Sample, key_sql, own_tables, sql_value, table
from tests.sessions import execute, query
from workflows_tasks.host import host as resolved


def test_one_and_a_queryset(sample: Sample) -> None:
    with sample.written():
        sample.newest.delete()
    with sample.written():
        sample.several(sample.other, sample.far).delete()
    with sample.written():
        sample.several().delete()


def test_a_queryset_without_reading_it(sample: Sample) -> None:
    """One DELETE, as Django makes it where nobody listens to signals."""
    keys = [sample.newest.pk, sample.other.pk]
    with sample.written():
        for model in reversed(own_tables(sample.host.run_model)):
            models.QuerySet(model).filter(pk__in=keys)._raw_delete("default")


@pytest.mark.parametrize("what", ["workspace", "workflow"])
def test_what_a_run_points_to_by_django(sample: Sample, what: str) -> None:
    """Cascades, or SET NULL, as the host's models say."""
    with sample.written():
        getattr(sample, what).delete()


FOREIGN_KEYS: dict[str, Any] = {
    name: field
    for name, field in (
        ("workspace", resolved().workspace), ("user", resolved().user), ("first hop", resolved().path[0]),
    )
    if field.remote_field
}  # fmt: skip
"""Those of the run model; a user may be a plain column."""


def ways(*kinds: str) -> list[tuple[str, str]]:
    """Each foreign key with each kind that it allows."""
    return [
        (name, kind)
        for name, field in FOREIGN_KEYS.items()
        for kind in kinds
        if field.null or not kind.endswith("NULL")
    ]


@pytest.mark.parametrize(("name", "kind"), ways("SET", "SET_DEFAULT", "SET_NULL", "CASCADE"))
def test_every_on_delete_of_django(sample: Sample, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    field = FOREIGN_KEYS[name]
    donor = {"workspace": sample.far, "user": sample.colleagues, "first hop": sample.other}[name]
    value = getattr(donor, field.attname)
    on_delete: Any = models.SET(value) if kind == "SET" else getattr(models, kind)
    monkeypatch.setattr(field.remote_field, "on_delete", on_delete)
    monkeypatch.setattr(field, "default", value)
    monkeypatch.setattr(field, "_get_default", lambda: value)
    with sample.written():
        getattr(sample.newest, field.name).delete()


def test_do_nothing(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pointed to it is led to another row by hand, before the transaction ends and foreign keys are checked."""
    last = resolved().path[-1]
    monkeypatch.setattr(last.remote_field, "on_delete", models.DO_NOTHING)
    key = sample.workflow.pk
    with sample.written(), transaction.atomic():
        sample.workflow.delete()
        models.QuerySet(last.model).filter(**{last.attname: key}).update(**{last.name: sample.another})


@pytest.mark.skipif(len(resolved().path) == 1, reason="a run holds its workflow's key itself here")
def test_keys_that_point_nowhere(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a constraint in the database: a version goes, and comes again under its key; and all versions go."""
    field = FOREIGN_KEYS["first hop"]
    monkeypatch.setattr(field.remote_field, "on_delete", models.DO_NOTHING)
    version = getattr(sample.newest, field.name)
    again = type(version)(**{each.attname: getattr(version, each.attname) for each in version._meta.concrete_fields})
    with constraint(field, None):
        with sample.written():
            version.delete()
        with sample.written():
            again.save(force_insert=True)
        with sample.written():
            execute(f"TRUNCATE {table(type(version))}")


@pytest.mark.parametrize(
    ("name", "action"),
    [
        way for way in ways("ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE")
        if way != ("first hop", "ON UPDATE CASCADE")
    ],
)  # fmt: skip
def test_what_the_database_does_by_itself(sample: Sample, name: str, action: str) -> None:
    """Foreign keys' own actions, by a statement that Django knows nothing of."""
    field = FOREIGN_KEYS[name]
    instance = getattr(sample.newest, field.name)
    with constraint(field, action), sample.written():
        if action == "ON UPDATE CASCADE":
            column, value = f'"{field.target_field.column}"', sql_value(field, instance)
            fresh = FRESH_KEYS[field.target_field.get_internal_type()].format(value)
            execute(f"UPDATE {table(type(instance))} SET {column} = {fresh} WHERE {column} = {value}")
        else:
            execute(f"DELETE FROM {table(type(instance))} WHERE {key_sql(instance)}")


FRESH_KEYS = {
    "UUIDField": "gen_random_uuid()",
    "SlugField": "{} || '-x'",
    "BigAutoField": "{}::bigint + 1000",
    "AutoField": "{}::bigint + 1000",
    "PositiveIntegerField": "{}::bigint / 2",
}


@contextmanager
def constraint(field: Any, action: str | None) -> Iterator[None]:
    """Within, the foreign key's constraint has this action; there is none for None."""
    ((name, definition),) = query(
        """SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_attribute a
        ON attrelid = conrelid AND conkey = ARRAY[attnum] WHERE contype = 'f' AND conrelid = %s::regclass
        AND attname = %s""",
        [table(field.model), field.column],
    )
    alter = f"ALTER TABLE {table(field.model)}"
    execute(f'{alter} DROP CONSTRAINT "{name}"')
    if action:
        execute(f'{alter} ADD CONSTRAINT "{name}" {definition.partition(" DEFERRABLE")[0]} {action}')
    try:
        yield
    finally:
        if action:
            execute(f'{alter} DROP CONSTRAINT "{name}"')
        # Not valid, for rows may lead nowhere now; they are deleted with the test's others.
        execute(f'{alter} ADD CONSTRAINT "{name}" {definition.removesuffix(" NOT VALID")} NOT VALID')


def test_a_user_deleted_or_renamed(sample: Sample) -> None:
    """Where the user is a plain column, its runs are written by hand."""
    field = resolved().user
    with sample.written():
        if field.remote_field is None:
            sample.several().filter(**{field.name: sample.user}).update(**{field.name: sample.colleague})
        else:
            sample.user.delete()


def test_a_key_is_used_again(sample: Sample) -> None:
    """A run is deleted, and another takes its key, in another workspace: in one transaction, and in two."""
    host, model = sample.host, sample.host.run_model
    for run, together in ((sample.newest, True), (sample.older, False)):
        key = run.pk
        again = model(**{field.attname: getattr(run, field.attname) for field in model._meta.concrete_fields})
        setattr(again, host.workspace_field, sample.other_workspace)
        setattr(again, host.used_at_field, moment(9 if together else 10))
        with sample.written():
            if together:
                with transaction.atomic():
                    run.delete()
                    again.save(force_insert=True)
            else:
                run.delete()
                sample.check()
                again.save(force_insert=True)
        assert again.pk == key
