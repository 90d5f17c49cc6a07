"""Three ways in which a database refuses what concerns one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.conf import settings
from django.db.models import BooleanField, F, Func, Q
from django.test import override_settings

from tests.sessions import execute
from workflows_tasks.host import host
from workflows_tasks.models import WorkspaceRecentWorkflow

TABLE = WorkspaceRecentWorkflow._meta.db_table


def _is_one_of(text: str, runs: Sequence[Any]) -> str:
    return f"{text} IN ({', '.join(repr(str(run.pk)) for run in runs)})"


@contextmanager
def by_trigger(*runs: Any) -> Iterator[None]:
    """Somebody's own trigger on our table raises."""
    execute(
        f"""CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {_is_one_of("NEW.last_run_id::text", runs)} THEN RAISE EXCEPTION 'this row is refused'; END IF;
            RETURN NEW;
        END $$"""
    )
    execute(f'CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON "{TABLE}" FOR EACH ROW EXECUTE FUNCTION refuse_row()')
    try:
        yield
    finally:
        execute(f'DROP TRIGGER refuse ON "{TABLE}"')
        execute("DROP FUNCTION refuse_row()")


@contextmanager
def by_index(*runs: Any) -> Iterator[None]:
    """Somebody's own index on our table would get an entry that is too long."""
    execute(
        f"""CREATE FUNCTION indexed(run text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN {_is_one_of("run", runs)}
               THEN (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) AS n) ELSE run END $$"""
    )
    execute(f'CREATE INDEX refusing ON "{TABLE}" (indexed(last_run_id::text))')
    try:
        yield
    finally:
        execute("DROP INDEX refusing")
        execute("DROP FUNCTION indexed(text)")


@contextmanager
def by_filter(*runs: Any) -> Iterator[None]:
    """``RUN_FILTER`` calls a function that raises."""
    execute(
        f"""CREATE FUNCTION is_fine(run text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
        BEGIN
            IF {_is_one_of("run", runs)} THEN RAISE EXCEPTION 'this run is refused'; END IF;
            RETURN true;
        END $$"""
    )
    call = Func(F("pk"), template="is_fine(%(expressions)s::text)", output_field=BooleanField())
    given = settings.RECENT_WORKFLOWS
    try:
        with override_settings(RECENT_WORKFLOWS={**given, "RUN_FILTER": host().run_filter & Q(call)}):
            yield
    finally:
        execute("DROP FUNCTION is_fine(text)")


Refuse = Callable[..., AbstractContextManager[None]]
WAYS: Sequence[Refuse] = (by_trigger, by_index, by_filter)
