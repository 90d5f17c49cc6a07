"""What a trigger writes, where another transaction or a restore is in its way."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from tests.concurrency.given import Given, without_foreign_keys
from tests.hosts.adapter import moment
from workflows_tasks.models import CHANGES


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_run_is_inserted(given: Given) -> None:
    """By itself: what it leads through was there before."""
    host = given.host
    path = host.leading_to(given.workflow)
    given.settle()
    fields = {host.workspace_field: given.workspace, host.user_field: given.user, host.used_at_field: moment(1)}
    (run,) = host.insert_runs([{**fields, **path, **host.shown}])
    assert {row.run for row in given.settle()} == {run}


def test_a_run_is_updated(given: Given) -> None:
    run = given.old_run(1)
    given.use(run, 2)
    given.settle()
    given.assert_rows_name(run)


def test_a_run_is_deleted(given: Given) -> None:
    run = given.run(1)
    given.settle()
    given.delete(run)
    assert given.settle() == []


def test_runs_are_truncated(given: Given) -> None:
    given.run(1)
    given.settle()
    _truncate(given.host.run_model)
    assert given.settle() == []


def _truncate(model: Any) -> None:
    with without_foreign_keys():
        names = [connection.ops.quote_name(each._meta.db_table) for each in (model, *model._meta.parents)]
        execute(f"TRUNCATE {', '.join(names)}")


has_hops = pytest.mark.where_allowed("workflow")
"""With hosts where something is between a run and its workflow. No foreign key's constraint is to be relied on."""


@has_hops
def test_a_hop_is_updated(given: Given) -> None:
    run = given.run(1)
    given.settle()
    workflow = given.host.make_workflow()
    given.lead_to(run, workflow)
    assert {row.workflow for row in given.settle()} == {workflow.pk}


@has_hops
def test_a_hop_is_deleted(given: Given) -> None:
    hop = given.hops(given.run(1))[-1]
    given.settle()
    with without_foreign_keys():
        _delete(hop)
        assert given.settle() == []


@has_hops
def test_a_hop_is_inserted(given: Given) -> None:
    run = given.run(1)
    hop = given.hops(run)[-1]
    with without_foreign_keys():
        _delete(hop)
        assert given.settle() == []
        hop.save(force_insert=True)
        given.settle()
    given.assert_rows_name(run)


@has_hops
def test_hops_are_truncated(given: Given) -> None:
    hop = given.hops(given.run(1))[-1]
    given.settle()
    _truncate(type(hop))
    assert given.settle() == []


def _delete(instance: Any) -> None:
    rows = type(instance)._base_manager.filter(pk=instance.pk)
    rows._raw_delete(rows.db)


@pytest.mark.parametrize("what", ["is not there", "has a column that must be given", "lacks a column"])
def test_the_hosts_write_succeeds_where_the_log(given: Given, what: str) -> None:
    column = "at" if what == "lacks a column" else "foreign_to_us"
    there, back = {
        "is not there": (f"ALTER TABLE {CHANGES} RENAME TO elsewhere", f"ALTER TABLE elsewhere RENAME TO {CHANGES}"),
        "has a column that must be given": (
            f"ALTER TABLE {CHANGES} ADD {column} integer NOT NULL", f"ALTER TABLE {CHANGES} DROP {column}",
        ),
        "lacks a column": (
            f"ALTER TABLE {CHANGES} RENAME shard TO sherd", f"ALTER TABLE {CHANGES} RENAME sherd TO shard",
        ),
    }[what]  # fmt: skip
    execute(f"DELETE FROM {CHANGES}")
    execute(there)
    try:
        run = given.run(1)
        given.delete(run)
    finally:
        execute(back)


def test_a_change_that_was_restored_does_not_collide(given: Given) -> None:
    """Data alone is restored, the log first, and then the host's rows, with triggers on."""
    given.run(1)
    execute(f"CREATE TEMPORARY TABLE dump AS SELECT * FROM {CHANGES}")
    execute(f"TRUNCATE {CHANGES} RESTART IDENTITY")
    execute(f"INSERT INTO {CHANGES} SELECT * FROM dump")
    execute("DROP TABLE dump")
    given.run(2)
    given.settle()
