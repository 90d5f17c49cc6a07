"""The host's write never suffers, whatever is wrong with capture: it succeeds, and a warning says what is wrong.

So does whoever watches. What was missed is looked at again when it has been put right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import ProgrammingError

from tests.integration.capture.sample import Sample, later, logged, own_tables, sql_value, table
from tests.sessions import execute, psql, query, role
from workflows_tasks import conf, reads
from workflows_tasks.capture import installation, record, tables, triggers, watch
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES
from workflows_tasks.monitoring import health
from workflows_tasks.tick import tick

COMMAND = "manage.py recent_workflows triggers --install"


@pytest.fixture(autouse=True)
def as_installed(sample: Sample) -> Iterator[None]:
    """Installed before, so that it is noted how the tables were, and again afterwards, for the next test."""
    assert not installation.install()
    yield
    assert not installation.install()


def problems() -> str:
    return "\n".join(map(str, watch.problems()))


def deletion(sample: Sample) -> str:
    """Two runs go, which is a write that Django has no part in."""
    keys = f"'{sample.newest.pk}', '{sample.far.pk}'"
    models = reversed(own_tables(sample.host.run_model))
    return "; ".join(f'DELETE FROM {table(m)} WHERE "{m._meta.pk.column}" IN ({keys})' for m in models)


def mended(sample: Sample) -> None:
    """All is captured, and what was missed is found by what the next ticks and flushes do."""
    assert not installation.install()
    assert not watch.problems()
    tick()
    sample.check()
    with sample.written():
        sample.host.save_again(sample.colleagues)


@contextmanager
def renamed(model: str, column: str) -> Iterator[str]:
    """Within, a column has another name, which it was given by hand."""
    execute(f'ALTER TABLE {model} RENAME COLUMN "{column}" TO "renamed by hand"')
    try:
        yield '"renamed by hand"'
    finally:
        execute(f'ALTER TABLE {model} RENAME COLUMN "renamed by hand" TO "{column}"')


@pytest.mark.parametrize("name", ["workspace", "used_at", "user", "path"])
def test_a_column_renamed_by_hand(sample: Sample, name: str) -> None:
    """The change names the run alone, for every shard: nothing is missed."""
    found = resolved()
    field = found.path[0] if name == "path" else getattr(found, name)
    model = table(field.model)
    with renamed(model, field.column) as now:
        value = sql_value(field, sample.other_workspace) if name == "workspace" else f"{now}"
        warned = psql(f"UPDATE {model} SET {now} = {value}; {deletion(sample)}")
        assert "WARNING" in warned
        assert COMMAND in warned
        assert f"has no column {field.column}" in problems()
        tick()
        assert any(field.column in problem for problem in record.installation().problems)
    sample.check()


@pytest.mark.host_independent
def test_installing_while_a_column_has_another_name(sample: Sample) -> None:
    """That name is not what the table should have from then on."""
    column = str(resolved().user.column)
    with renamed(table(sample.host.run_model), column):
        installation.install()
        assert f"has no column {column}" in problems()
    assert not problems()


def test_the_key_itself_renamed_by_hand(sample: Sample) -> None:
    """Nothing can be named then, so every run is."""
    with renamed(table(sample.host.run_model), sample.host.run_model._meta.pk.column) as now:
        statement = f"DELETE FROM {table(sample.host.run_model)} WHERE {now} = '{sample.newest.pk}'"
        assert "WARNING" in psql(statement)
    sample.check()


def test_a_column_dropped_by_hand_and_made_again(sample: Sample) -> None:
    """What the new column says came by no write: a tick notices, and so does the command."""
    field = resolved().used_at
    with dropped(field):
        assert "WARNING" in psql(deletion(sample))
        assert f"has no column {field.column}" in problems()
    assert "has other columns" in problems()
    mended(sample)


@contextmanager
def dropped(field: Any) -> Iterator[None]:
    """Within, a column is gone; afterwards it is there again, with the same moment for all runs."""
    model, column = table(field.model), field.column
    ((kind, not_null),) = query(
        "SELECT format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attname = %s",
        [model, column],
    )
    indexes = query("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", [field.model._meta.db_table])
    execute(f'ALTER TABLE {model} DROP COLUMN "{column}"')
    yield
    execute(f"ALTER TABLE {model} ADD COLUMN \"{column}\" {kind} DEFAULT '2020-01-01' {'NOT NULL' if not_null else ''}")
    execute(f'ALTER TABLE {model} ALTER COLUMN "{column}" DROP DEFAULT')
    for name, definition in indexes:
        if not query("SELECT to_regclass(%s)", [f'"{name}"'])[0][0]:
            execute(definition)


def test_the_log_is_missing(sample: Sample) -> None:
    execute(f"DROP TABLE {CHANGES}")
    sample.host.save_again(sample.other)
    warned = psql(deletion(sample))
    assert "WARNING" in warned
    assert "is not captured" in warned
    assert COMMAND in warned
    assert "the change log is missing" in problems()
    mended(sample)


@pytest.mark.host_independent
@pytest.mark.parametrize(
    "alter", ["ADD COLUMN theirs integer NOT NULL", "RENAME COLUMN run TO theirs", "DROP COLUMN key"]
)
def test_nobody_alters_the_log(sample: Sample, alter: str) -> None:
    """Not its owner, either: a write of the host's would fail. The log of another kind of table is a problem."""
    with pytest.raises(ProgrammingError, match="typed table"):
        execute(f"ALTER TABLE {CHANGES} {alter}")
    with sample.written():
        assert "WARNING" not in psql(deletion(sample))
    execute(f"ALTER TABLE {CHANGES} NOT OF")
    told = problems()
    assert "somebody may alter the change log" in told
    execute(told.partition("execute: ")[2])
    assert not problems()


@pytest.mark.host_independent
def test_no_right_to_write_the_log(sample: Sample) -> None:
    """The functions are another role's, as after a change of owners."""
    functions = [
        name
        for (name,) in query("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'recent\\_workflows\\_%%'")
    ]
    ((schema,),) = query("SELECT current_schema()")
    with role(f"USAGE, CREATE ON SCHEMA {schema}") as owner:
        for function in functions:
            execute(f"ALTER FUNCTION {function} OWNER TO {owner}")
        sample.host.save_again(sample.other)
        assert "WARNING" in psql(deletion(sample))
        assert logged() == 0
        assert f"{owner}, who owns the triggers' functions, may not write the log" in problems()
        tick()
        execute(f"GRANT INSERT ON {CHANGES} TO {owner}")
        assert not problems()
        with_rights = psql(later(sample.other))
        assert "WARNING" not in with_rights
    tick()
    tick()
    sample.check()


@pytest.mark.host_independent
def test_a_disabled_trigger(sample: Sample) -> None:
    """Nobody warns of it but whoever watches."""
    model = table(sample.host.run_model)
    execute(f"ALTER TABLE {model} DISABLE TRIGGER {triggers.ROW_TRIGGER}")
    execute(deletion(sample))
    assert logged() == 0
    told = problems()
    tick()
    execute(told[told.index("ALTER TABLE") :])  # it ends with what mends it
    tick()
    tick()
    sample.check()


@pytest.mark.host_independent
def test_a_table_swapped_by_rename(sample: Sample) -> None:
    """As tools for online schema changes do: the live table is left without triggers."""
    model = table(sample.host.run_model)
    execute(f"ALTER TABLE {model} RENAME TO swapped")
    execute(f"CREATE TABLE {model} (LIKE swapped INCLUDING ALL)")
    execute(f"INSERT INTO {model} SELECT * FROM swapped WHERE id <> {sample.newest.pk}")
    try:
        assert "has no trigger" in problems()
        mended(sample)
    finally:
        execute(f"DROP TABLE {model}")
        execute(f"ALTER TABLE swapped RENAME TO {model}")


@pytest.mark.host_independent
def test_the_hosts_statement_does_not_fail_for_want_of_temporary_files(sample: Sample) -> None:
    """Statement-level triggers would keep each new row whole, in temporary files."""
    script = f"""SET temp_file_limit = '100kB'; SET work_mem = '64kB'; UPDATE bots_savedrun SET
        state = to_jsonb((SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1500))),
        updated_at = updated_at + interval '1 day' WHERE surface = 0 AND id <> {sample.newest.pk}"""
    with sample.written():
        assert "WARNING" not in psql(script)
    psql("""CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER a_statement_level_one AFTER UPDATE ON bots_savedrun REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION nothing()""")
    try:
        with pytest.raises(AssertionError, match="temporary file size exceeds"):
            psql(script)
    finally:
        execute("DROP FUNCTION nothing CASCADE")


def test_app_works_while_nothing_is_installed(sample: Sample) -> None:
    """Before the first ``triggers --install``, or after ``--remove``, also if a function of another table is left."""
    execute(triggers.create_function('public."recent_workflows_of_another_table"', triggers.OFF))
    assert not installation.remove()
    try:
        sample.host.save_again(sample.other)
        execute(deletion(sample))
        assert logged() == 0
        (told,) = health.capture_problems()
        assert told == f"{CHANGES}: capture is not installed, so nothing is logged; run: {COMMAND}"
    finally:
        execute('DROP FUNCTION public."recent_workflows_of_another_table"')
        assert not installation.install()
    tick()
    sample.check()


def test_a_function_that_is_gone_is_not_called_outdated(sample: Sample) -> None:
    """And where a part is there, the others are named."""
    function, *_ = triggers.functions(tables.tables(resolved())[0], triggers.Names.of_schema("public"))
    execute(f"DROP FUNCTION {function} CASCADE")
    told = problems()
    assert f"has no trigger {triggers.ROW_TRIGGER}" in told
    assert f"has no function {function}; run: {COMMAND}" in told
    assert not installation.install()


def test_the_function_of_fresh_pages_is_missing_or_outdated(sample: Sample, configure: Any) -> None:
    """It is named, apart from what captures; a mend has nothing looked at again, because nothing was missed."""
    name = f'public."{reads.FUNCTION}"'
    execute(f"DROP FUNCTION {name}")
    assert [problem.table for problem in installation.problems_of_pages()] == [name]
    assert not watch.problems()
    assert any(name in problem for problem in health.capture_problems())
    assert not installation.install()
    assert not installation.problems_of_pages()
    assert record.installation().rescan_waits_for is None
    before = conf.settings().shards
    configure(SHARDS=7)
    assert [problem.table for problem in installation.problems_of_pages()] == [name]
    configure(SHARDS=before)


def test_turned_off_and_on(sample: Sample) -> None:
    """Nothing is captured until it is turned on. What was written meanwhile is looked at again."""
    installation.turn_off()
    sample.host.save_again(sample.other)
    assert psql(deletion(sample)) == ""
    assert logged() == 0
    assert "triggers are turned off" in problems()
    mended(sample)
