"""The sweep's watermark: it waits for open transactions, misses no run of its order, and outlives its process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from tests.conftest import Configure
from tests.exactness.processes import call_in_new_process
from tests.exactness.scene import Scene
from tests.exactness.stepping import WRITTEN, Actor, open_transaction, pause_here
from tests.exactness.sweeping import (
    PROMPT,
    server_now,
    sweep_for_a_while,
    sweep_until_found,
    sweep_until_past,
    use_now,
    watermark,
)
from tests.waiting import until
from workflows_tasks import repair


def write_silently(scene: Scene, made: list[Any]) -> None:
    """Insert a run of this moment; its message will be lost."""
    made.append(use_now(scene, scene.silent_run(0)))


def test_a_transaction_that_is_open_across_sweeps(swept: Scene) -> None:
    """It has written a run of this moment and goes on for many sweeps, while others commit later ones. When it commits
    and its message is lost, the run must not be behind the watermark."""
    made: list[Any] = []
    opened = server_now()
    with open_transaction(lambda: write_silently(swept, made)) as commit:
        later = use_now(swept, swept.silent_run(0, workspace=swept.earlier))
        sweep_until_found(1)
        swept.settle()
        sweep_for_a_while()
        assert watermark() <= opened
        commit()
        sweep_until_found(1)
    swept.shows(later, made[0])
    sweep_until_past(opened)


@contextmanager
def prepared_transaction(write: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A transaction that has written and is prepared, of a session that is gone; what it yields commits it."""
    name = f"exactness-{uuid.uuid4()}"

    def prepare() -> None:
        with transaction.atomic():
            write()
            with connection.cursor() as cursor:
                cursor.execute(f"PREPARE TRANSACTION '{name}'")

    def end(how: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_prepared_xacts WHERE gid = %s", [name])
            if cursor.fetchall():
                cursor.execute(f"{how} PREPARED '{name}'")

    Actor(prepare).finish()
    try:
        yield lambda: end("COMMIT")
    finally:
        end("ROLLBACK")


def test_a_prepared_transaction(swept: Scene) -> None:
    """No session has it open any more, yet it will be committed: by the other half of a two-phase commit."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_prepared_transactions")
        if cursor.fetchone() == ("0",):
            pytest.skip("the server allows no prepared transactions: set max_prepared_transactions")
    made: list[Any] = []
    opened = server_now()
    with prepared_transaction(lambda: write_silently(swept, made)) as commit:
        later = use_now(swept, swept.silent_run(0, workspace=swept.earlier))
        sweep_until_found(1)
        swept.settle()
        sweep_for_a_while()
        assert watermark() <= opened
        commit()
        sweep_until_found(1)
    swept.shows(later, made[0])


def test_a_transaction_that_was_open_for_long_before_it_was_prepared(swept: Scene) -> None:
    """What counts is when it began to write, not when it was prepared: the run that it wrote is of before that, and
    another's, that was committed in between, is no reason to pass it."""
    made: list[Any] = []
    opened = server_now()
    later = swept.silent_run(0, workspace=swept.earlier)
    later_at = opened + timedelta(seconds=3 * PROMPT["SWEEP_OVERLAP_S"])
    swept.host.set_used_at(later, later_at)

    def write_and_go_on() -> None:
        write_silently(swept, made)
        until(lambda: (server_now() - opened).total_seconds() > 9 * PROMPT["SWEEP_OVERLAP_S"])

    with prepared_transaction(write_and_go_on) as commit:
        sweep_until_found(1)
        swept.settle()
        sweep_for_a_while()
        assert watermark() < later_at
        commit()
        sweep_until_found(1)
    swept.shows(later, made[0])


def test_a_transaction_of_another_role(swept: Scene) -> None:
    """A host may give its web and its worker processes different roles. What another role's session is doing the
    server tells only to those who may know; the watermark must wait for it all the same."""
    with connection.cursor() as cursor, role(cursor):
        cursor.execute("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'member')")
        assert cursor.fetchone() == (False,)
        made: list[Any] = []
        opened = server_now()
        with open_transaction(lambda: write_silently(swept, made)) as commit:
            later = use_now(swept, swept.silent_run(0, workspace=swept.earlier))
            sweep_until_found(1)
            swept.settle()
            sweep_for_a_while()
            assert watermark() <= opened
            commit()
            sweep_until_found(1)
        swept.shows(later, made[0])


@contextmanager
def role(cursor: Any) -> Iterator[None]:
    """Within, this connection has the rights of a role that may write every table, and no more."""
    name = connection.ops.quote_name(f"exactness {uuid.uuid4()}")
    cursor.execute(f"CREATE ROLE {name}")
    cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    cursor.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
    cursor.execute(f"SET ROLE {name}")
    try:
        yield
    finally:
        cursor.execute("RESET ROLE")
        cursor.execute(f"DROP OWNED BY {name}")
        cursor.execute(f"DROP ROLE {name}")


def test_a_transaction_that_only_reads_is_not_waited_for(swept: Scene) -> None:
    """A report that runs for an hour must not make every sweep read an hour of runs."""
    opened = server_now()
    run = swept.run(2)
    swept.settle()
    reading: Actor[None] = Actor(lambda: _read(run), WRITTEN).stands()
    assert reading.is_paused
    use_now(swept, run)
    sweep_until_found(1)
    sweep_until_past(opened)
    reading.finish()
    swept.shows(run)


def _read(run: Any) -> None:
    with transaction.atomic():
        assert type(run)._base_manager.filter(pk=run.pk).exists()
        pause_here()


@pytest.mark.parametrize("pages", [1, 2, 50])
def test_runs_of_one_moment_are_swept_across_pages(
    swept: Scene, configure: Configure, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    """Ten runs of one moment and pages of three: the order is that of (time, key), so no page skips a run; and where a
    sweep reads no more pages, the next goes on there."""
    configure(SWEEP_PAGE=3)
    monkeypatch.setattr(repair, "PAGES", pages)
    at = server_now()
    workflows = [swept.host.make_workflow() for _ in range(10)]
    keys = swept.host.make_runs(10, workspaces=[swept.workspace], workflows=workflows, users=[swept.user])
    for run in swept.host.run_model._base_manager.filter(pk__in=keys):
        swept.host.set_used_at(run, at)
    sweep_until_found(10)
    assert len(swept.settle()) == 2 + 20


def test_the_watermark_outlives_its_process(swept: Scene) -> None:
    """Another process's sweep goes on where this one's was; what was committed in between is found."""
    before = watermark()
    lost = use_now(swept, swept.silent_run(0))
    assert call_in_new_process("repair.sweep()") == 1
    swept.shows(lost)
    sweep_until_past(before)
