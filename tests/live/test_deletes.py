"""Deletes: announced after their commit, never hindered, and at no cost in columns that nobody needs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact, flush_all, stored
from workflows_tasks import inbox


def pending() -> int:
    return sum(shard.pending for shard in inbox.status())


@pytest.fixture
def runs(live: Host) -> list[Any]:
    """Five runs of one workflow and workspace, written to the table."""
    workspace, workflow, user = live.make_workspace(), live.make_workflow(), live.make_user()
    made = [live.make_run(workspace=workspace, workflow=workflow, user=user, used_at=moment(m)) for m in range(5)]
    flush_all()
    return made


def test_one_run(live: Host, runs: list[Any]) -> None:
    runs[4].delete()
    assert pending() == 1
    flush_all()
    assert {row.run for row in assert_exact(live)} == {runs[3].pk}


def test_a_queryset(live: Host, runs: list[Any]) -> None:
    live.run_model._base_manager.filter(pk__in=[run.pk for run in runs[2:]]).delete()
    assert pending() == 3
    flush_all()
    assert {row.run for row in assert_exact(live)} == {runs[1].pk}


@pytest.mark.where_allowed("alias")
def test_through_a_proxy_or_a_multi_table_parent(live: Host, runs: list[Any]) -> None:
    live.alias_model._base_manager.get(pk=runs[4].pk).delete()
    flush_all()
    assert {row.run for row in assert_exact(live)} == {runs[3].pk}
    live.alias_model._base_manager.filter(pk=runs[3].pk).delete()
    flush_all()
    assert {row.run for row in assert_exact(live)} == {runs[2].pk}


def test_nothing_is_announced_before_the_commit(live: Host, runs: list[Any]) -> None:
    with transaction.atomic():
        runs[4].delete()
        live.run_model._base_manager.filter(pk=runs[3].pk).delete()
        assert pending() == 0
    assert pending() == 2


def test_a_delete_that_was_rolled_back_is_not_announced(live: Host, runs: list[Any]) -> None:
    with transaction.atomic():
        runs[4].delete()
        transaction.set_rollback(True)
    assert pending() == 0
    flush_all()
    assert_exact(live)


def test_a_run_that_is_nobodys_latest_is_announced_too(live: Host, runs: list[Any]) -> None:
    """A flush may be about to write it, from a snapshot that still has it."""
    runs[0].delete()
    assert pending() == 1


@pytest.mark.parametrize("parent", ["workspace", "workflow"])
def test_rows_of_what_is_deleted_go_with_the_next_flush(live: Host, runs: list[Any], parent: str) -> None:
    """Not at once: the host's delete must not wait for a flush that writes them."""
    workflow = live.workflow_model._base_manager.get(pk=stored()[0].workflow)
    (workflow if parent == "workflow" else getattr(runs[0], live.workspace_field)).delete()
    flush_all()
    assert assert_exact(live) == []


def test_a_delete_does_not_wait_for_a_flush(live: Host, runs: list[Any]) -> None:
    """Rows of ours that a flush has locked are in nobody's way."""
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM workflows_tasks_workspacerecentworkflow FOR UPDATE")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 1000")
            live.workflow_model._base_manager.get(pk=stored()[0].workflow).delete()
            getattr(runs[0], live.workspace_field).delete()
    finally:
        other.rollback()
        other.close()
    flush_all()
    assert assert_exact(live) == []


@pytest.mark.where_allowed("cascade")
@pytest.mark.parametrize("parent", ["workspace", "workflow"])
def test_runs_that_a_cascade_deletes_are_announced(live: Host, runs: list[Any], parent: str) -> None:
    workflow = live.workflow_model._base_manager.get(pk=stored()[0].workflow)
    (workflow if parent == "workflow" else getattr(runs[0], live.workspace_field)).delete()
    assert not live.run_model._base_manager.exists()
    ids = {str(run.pk) for run in runs}
    assert ids <= set(inbox.where_is(ids))


def test_a_cascade_does_not_read_the_runs_large_column(live: Host, runs: list[Any]) -> None:
    workspace, workflow = getattr(runs[0], live.workspace_field), stored()[0].workflow
    with CaptureQueriesContext(connection) as captured:
        workspace.delete()
        live.workflow_model._base_manager.get(pk=workflow).delete()
    statements = [query["sql"] for query in captured]
    assert any(sql.startswith("DELETE") for sql in statements)
    assert not [sql for sql in statements if f'"{live.large_column}"' in sql]


def test_no_constraint_of_ours_can_stop_a_raw_delete(live: Host, runs: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid = 'workflows_tasks_workspacerecentworkflow'::regclass AND contype = 'f'"
        )
        assert cursor.fetchall() == []
