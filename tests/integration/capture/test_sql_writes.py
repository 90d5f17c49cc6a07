"""Writes that know nothing of Django are captured: raw SQL, other programs, other roles, odd transactions."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from tests.hosts.adapter import Host
from tests.integration.capture.sample import (
    Sample,
    columns,
    copy_sql,
    execute_all,
    later,
    logged,
    new_key,
    own_tables,
    set_sql,
    sql_value,
    table,
    user_sql,
)
from tests.sessions import execute, psql, query, role, session
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES


def copies(sample: Sample, run: Any) -> list[str]:
    """Statements that insert a run again, under another key, a day later: one for each of its tables."""
    key = new_key(sample)
    return [copy_sql(model, run, key) for model in own_tables(sample.host.run_model)]


def moves(sample: Sample, run: Any) -> str:
    """A statement that moves a run to the other workspace."""
    return set_sql(resolved().workspace, sql_value(resolved().workspace, sample.other_workspace), run)


def deletes(sample: Sample, run: Any) -> list[str]:
    return [
        f"DELETE FROM {table(model)} WHERE \"{model._meta.pk.column}\" = '{run.pk}'"
        for model in reversed(own_tables(sample.host.run_model))
    ]


def test_insert_update_and_delete(sample: Sample) -> None:
    with sample.written(), transaction.atomic():
        execute_all(*copies(sample, sample.newest))
    with sample.written():
        execute(moves(sample, sample.newest))
    with sample.written():
        execute(set_sql(resolved().user, user_sql(sample, sample.colleague), sample.other))
    with sample.written():
        execute(later(sample.older))
    with sample.written(), transaction.atomic():
        execute_all(*deletes(sample, sample.older))


def test_merge(sample: Sample) -> None:
    """One statement that moves one run and inserts another."""
    *parents, model = own_tables(sample.host.run_model)
    field, key = resolved().workspace, new_key(sample)
    names = columns(model)
    listed = ", ".join(f'"{name}"' for name in names)
    source = f"SELECT * FROM {table(model)} WHERE \"{names[0]}\" = '{sample.newest.pk}'"
    values = ", ".join(["source.fresh", *(f'source."{name}"' for name in names[1:])])
    with sample.written(), transaction.atomic():
        execute_all(*(copy_sql(parent, sample.newest, key) for parent in parents))
        execute(
            f"""MERGE INTO {table(model)} AS target USING (
                SELECT source.*, "{names[0]}" AS fresh FROM ({source}) AS source
                UNION ALL SELECT source.*, '{key}' FROM ({source}) AS source
            ) AS source ON target."{names[0]}" = source.fresh
            WHEN MATCHED THEN UPDATE SET "{field.column}" = {sql_value(field, sample.other_workspace)}
            WHEN NOT MATCHED THEN INSERT ({listed}) VALUES ({values})"""
        )


def test_another_program_copies(sample: Sample) -> None:
    """``psql`` writes with COPY, from what it has read with COPY."""
    key = new_key(sample)
    script = ["BEGIN;"]
    for model in own_tables(sample.host.run_model):
        listed = ", ".join(f'"{name}"' for name in columns(model))
        insert = copy_sql(model, sample.newest, key)
        selected = insert[insert.index(" SELECT ") :]
        rows = psql(f"COPY ({selected}) TO STDOUT;")
        script += [f"COPY {table(model)} ({listed}) FROM STDIN;", rows.strip("\n"), "\\."]
    with sample.written():
        assert "WARNING" not in psql("\n".join([*script, "COMMIT;", ""]))


def test_another_role_that_has_no_right_on_our_tables(sample: Sample) -> None:
    tables = ", ".join(table(model) for model in own_tables(sample.host.run_model))
    with role(f"SELECT, INSERT, UPDATE, DELETE ON {tables}") as name, sample.written():
        assert query("SELECT has_table_privilege(%s, %s, 'INSERT')", [name, CHANGES]) == [(False,)]
        script = [*copies(sample, sample.newest), moves(sample, sample.newest), *deletes(sample, sample.other)]
        assert "WARNING" not in psql("; ".join(["BEGIN", *script, "COMMIT"]), user=name)


def test_nobody_else_may_call_the_functions_or_read_the_log(sample: Sample) -> None:
    with role() as name:
        rights = query(
            """SELECT has_table_privilege(%(role)s, %(log)s, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'),
                (SELECT bool_or(has_function_privilege(%(role)s, oid, 'EXECUTE')) FROM pg_proc
                 WHERE proname LIKE 'recent\\_workflows\\_%%')""",
            {"role": name, "log": CHANGES},  # type: ignore[arg-type]
        )
    assert rights == [(False, False)]


@pytest.mark.parametrize("cascades", [False, True])
def test_truncate(sample: Sample, cascades: bool) -> None:
    """Of the runs; or of what they lead through, which takes them along."""
    model = resolved().path[0].related_model if cascades else sample.host.run_model
    with sample.written():
        execute(f"TRUNCATE {table(model)} CASCADE")
    sample.run(1, workflow=sample.host.make_workflow())
    sample.check()


def test_truncate_with_a_snapshot_from_before_our_rows(live: Host) -> None:
    """REPEATABLE READ: the table was empty when it began, and is not when it truncates."""
    with session() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute(f"SELECT count(*) FROM {CHANGES}")
        sample = Sample(live)
        other.execute(f"TRUNCATE {table(live.run_model)} CASCADE")
        other.execute("COMMIT")
    sample.check()


@pytest.mark.parametrize("commits", [True, False])
def test_prepared_transactions(sample: Sample, commits: bool) -> None:
    """Others write and flush between its preparation and its end."""
    with session() as other:
        other.execute("BEGIN")
        other.execute(moves(sample, sample.newest))
        other.execute("PREPARE TRANSACTION 'of a test'")
    with sample.written():
        execute(later(sample.other))
    if commits:
        execute("COMMIT PREPARED 'of a test'")
        sample.check()
    else:
        execute("ROLLBACK PREPARED 'of a test'")
        assert logged() == 0


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_is_open_for_long(sample: Sample, isolation: str) -> None:
    """Others write the same workspace and flush, several times, before it commits what it wrote first."""
    with session() as other:
        other.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        other.execute(later(sample.newest))
        for statement in copies(sample, sample.other):
            other.execute(statement)
        with sample.written():
            execute(later(sample.older))
        with sample.written():
            execute(moves(sample, sample.older))
        other.execute("COMMIT")
    sample.check()


def test_a_thousand_saves_in_one_transaction_take_no_subtransaction_ids(sample: Sample) -> None:
    """Past 64 of them in one session, the snapshots of all sessions would be slower."""
    if connection.pg_version < 160_000:  # type: ignore[attr-defined]
        pytest.skip("PostgreSQL 15 cannot tell")
    statement = later(sample.newest)
    with sample.written(), transaction.atomic():
        execute(f"DO $$ BEGIN FOR i IN 1..1000 LOOP {statement}; END LOOP; END $$")
        assert subtransactions() == (0, False)
        execute_all("SAVEPOINT one", statement)
        assert subtransactions() == (1, False)  # so what is counted is what is meant


def subtransactions() -> tuple[int, bool]:
    """Subtransaction ids of this session, and whether it has had too many to keep apart."""
    execute("SELECT pg_stat_clear_snapshot()")
    ((count, is_overflowed),) = query(
        "SELECT s.* FROM pg_stat_get_backend_idset() AS id CROSS JOIN pg_stat_get_backend_subxact(id) AS s"
        " WHERE pg_stat_get_backend_pid(id) = pg_backend_pid()"
    )
    return count, is_overflowed


def test_a_parent_row_deleted_and_made_again(sample: Sample) -> None:
    """The table of a multi-table parent alone, in one transaction: foreign keys are checked at its end."""
    parents = own_tables(sample.host.run_model)[:-1]
    if not parents:
        pytest.skip("the run has one table here")
    model, key = parents[0], sample.newest.pk
    used_at = resolved().used_at
    with sample.written(), transaction.atomic():
        execute(f"CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT * FROM {table(model)} WHERE reference = '{key}'")
        execute(f'UPDATE gone SET "{used_at.column}" = "{used_at.column}" - interval \'1 day\'')
        execute(f"DELETE FROM {table(model)} WHERE reference = '{key}'")
        execute(f"INSERT INTO {table(model)} SELECT * FROM gone")
