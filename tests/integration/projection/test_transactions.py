"""A slice's limits are ours, whatever the role's are; and moments that Python cannot hold stop nobody."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from tests.hosts.adapter import Host
from tests.integration.projection.neighbours import Neighbours
from tests.oracle import assert_exact, flush_all
from tests.sessions import execute, query
from workflows_tasks import conf, history, recent_workflows
from workflows_tasks.errors import NothingCommits
from workflows_tasks.host import host as resolved
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.projection.flush import flush
from workflows_tasks.projection.transactions import flush_limits, read_committed
from workflows_tasks.tick import tick

pytestmark = pytest.mark.host_independent

ROLE_S = {
    "statement_timeout": "'3s'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'4s'",
    "default_transaction_isolation": "'repeatable read'",
    "row_security": "on",
    "jit": "on",
}
"""What an administrator may have set for the role."""


def shown() -> dict[str, str]:
    names = [*ROLE_S, "transaction_isolation"]
    (values,) = query(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
    return dict(zip(names, values, strict=True))


def test_limits_are_ours_whatever_the_role_has(live: Host) -> None:
    near = Neighbours(live)
    run = near.run(1)
    seen: list[dict[str, str]] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "oldest AS" in sql and not seen:
            seen.append({})  # not for the look itself
            seen[0] |= shown()
        return execute(sql, params, many, context)

    for name, value in ROLE_S.items():
        execute(f"SET {name} = {value}")
    try:
        with connection.execute_wrapper(look):
            flush(near.shard)
    finally:
        for name in ROLE_S:
            execute(f"RESET {name}")
    whole_s = conf.settings().flush_time_limit_s
    assert seen == [
        {
            "statement_timeout": f"{whole_s / 2:g}s",
            "lock_timeout": f"{whole_s / 8 * 1000:g}ms",
            "idle_in_transaction_session_timeout": f"{whole_s / 2:g}s",
            "default_transaction_isolation": "repeatable read",
            "transaction_isolation": "read committed",
            "row_security": "off",
            "jit": "off",
        }
    ]
    flush_all()
    assert {row.run for row in assert_exact(live)} == {run.pk}


def test_a_look_at_the_whole_log_has_our_limits(live: Host) -> None:
    """Each look of beat takes one."""
    limits: list[str] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "WITH dealt" in sql:
            limits.append(shown()["statement_timeout"])
        return execute(sql, params, many, context)

    execute("SET statement_timeout = '3s'")
    try:
        with connection.execute_wrapper(look):
            tick()
    finally:
        execute("RESET statement_timeout")
    assert limits == [f"{conf.settings().flush_time_limit_s / 2:g}s"]


def test_it_is_never_a_part_of_somebody_elses_transaction(live: Host) -> None:
    Neighbours(live).run(1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        flush(0)


def test_without_autocommit_nothing_is_flushed(live: Host) -> None:
    transaction.set_autocommit(False)
    try:
        with pytest.raises(NothingCommits), read_committed(flush_limits()):
            raise AssertionError
    finally:
        transaction.set_autocommit(True)


# The last that the session's zone can still show.
STRANGE = ["infinity", "-infinity", "9999-12-31 23:59:59.999999", "294276-12-31 00:00:00", "4713-01-02 00:00:00 BC"]


@pytest.mark.parametrize("when", STRANGE)
def test_strange_moments_stop_nobody(live: Host, when: str) -> None:
    """They travel as text. The row is written, and it goes down again when the run is gone."""
    near = Neighbours(live)
    field = resolved().used_at
    table = f'"{field.model._meta.db_table}"'
    strange, older = near.run(2), near.run(1)
    of_run = f'"{field.model._meta.pk.column}" = %s'
    execute(f'UPDATE {table} SET "{field.column}" = %s WHERE {of_run}', [when, str(strange.pk)])
    neighbour = near.run(3, 1)
    flush_all()

    def rows_of(run: Any) -> list[str]:
        of_run = f'FROM "{WorkspaceRecentWorkflow._meta.db_table}" WHERE last_run_id::text = %s'
        return [text for (text,) in query(f"SELECT last_used_at::text {of_run}", [str(run.pk)])]

    is_newest = not when.startswith("-") and "BC" not in when
    assert len(rows_of(strange)) == (2 if is_newest else 0)
    assert len(rows_of(older)) == (0 if is_newest else 2)
    assert len(rows_of(neighbour)) == 2
    assert history.compare(history.EVERYWHERE) == []
    for model in (resolved().run, *resolved().run._meta.parents):
        execute(f'DELETE FROM "{model._meta.db_table}" WHERE "{model._meta.pk.column}" = %s', [str(strange.pk)])
    flush_all()
    assert_exact(live)


def test_the_hour_that_comes_twice(live: Host) -> None:
    """A clock in New York shows 1:45 before 1:15 then. The order is PostgreSQL's, whatever Python has of it."""
    near = Neighbours(live)
    field = resolved().used_at
    runs = [near.run(1), near.run(2, workflow=near.another), near.run(3)]
    times = ["2026-11-01 05:50+00", "2026-11-01 05:45+00", "2026-11-01 06:15+00"]
    for run, when in zip(runs, times, strict=True):
        execute(
            f'UPDATE "{field.model._meta.db_table}" SET "{field.column}" = %s'
            f' WHERE "{field.model._meta.pk.column}" = %s',
            [when, str(run.pk)],
        )
    workspace = near.workspaces[0]

    def pages() -> list[list[Any]]:
        read = (recent_workflows(workspace), recent_workflows(workspace, near.user, fresh=True))
        return [[row.last_run_id for row in page] for page in read]

    flush_all()
    assert pages() == [[runs[2].pk, runs[1].pk]] * 2
    assert history.compare(history.EVERYWHERE) == []
    runs[2].delete()
    flush_all()
    assert pages() == [[runs[0].pk, runs[1].pk]] * 2
    assert history.compare(history.EVERYWHERE) == []


def test_a_users_row_at_a_strange_moment_is_recomputed(live: Host) -> None:
    near = Neighbours(live)
    field = resolved().used_at
    run = near.run(1)
    execute(
        f'UPDATE "{field.model._meta.db_table}" SET "{field.column}" = %s WHERE "{field.model._meta.pk.column}" = %s',
        ["infinity", str(run.pk)],
    )
    flush_all()
    live.save_again(run)
    flush_all()
    assert_exact(live)
