"""Installing capture beside writers: nobody is held up for long, no two get into each other's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Q

from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.capture.sample import Sample, logged, table
from tests.sessions import execute, locked, query, session
from tests.threads import beside
from tests.waiting import until
from workflows_tasks.capture import installation, triggers, watch
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES

pytestmark = pytest.mark.host_independent

LONGEST_WAIT_S = 3.0


@pytest.fixture
def uninstalled(sample: Sample) -> Iterator[Sample]:
    assert not installation.remove()
    yield sample
    assert not installation.install()


class Writers:
    """Threads that write a run each in transactions of 10 to 100 ms; the longest time that one waited for a lock."""

    def __init__(self, sample: Sample, count: int) -> None:
        self.longest_s, self.transactions = 0.0, 0
        self._runs = [sample.run(minute).pk for minute in range(count)]
        self._over = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[Writers]:
        with beside(len(self._runs)) as start:
            futures = [start(partial(self._write, number)) for number in range(len(self._runs))]
            until(lambda: self.transactions >= len(self._runs))
            try:
                yield self
            finally:
                self._over.set()
                for future in futures:
                    future.result()

    def _write(self, number: int) -> None:
        with connection.cursor() as cursor:
            while not self._over.is_set():
                cursor.execute("BEGIN")
                began_s = time.monotonic()
                cursor.execute("UPDATE bots_savedrun SET updated_at = now() WHERE id = %s", [self._runs[number]])
                waited_s = time.monotonic() - began_s
                cursor.execute("SELECT pg_sleep(%s)", [0.01 + 0.015 * number])  # what this transaction does besides
                cursor.execute("COMMIT")
                with self._lock:
                    self.longest_s = max(self.longest_s, waited_s)
                    self.transactions += 1


def test_beside_writers(uninstalled: Sample) -> None:
    """It gets its locks, and no writer waits longer than three seconds for it."""
    steps: list[str] = []
    with Writers(uninstalled, 6).writing() as writers:
        assert not installation.install(steps.append)
        begun = writers.transactions
        until(lambda: writers.transactions > begun + 6)
    assert writers.longest_s < LONGEST_WAIT_S
    assert not watch.problems()
    assert "bots_savedrun: done" in steps
    assert logged() > 0


def test_beside_one_that_stays_open(uninstalled: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says whom it waits for, gives up with the command to run later, and holds no writer longer than it may.
    The other tables are installed; what is not is told; it works when the other has ended."""
    monkeypatch.setattr(installation, "NOWAIT_S", 0.1)
    steps: list[str] = []
    with session() as other:
        other.execute("SET application_name = 'a nightly job'")
        other.execute("BEGIN")
        other.execute("SELECT pg_backend_pid()")
        (pid,) = other.fetchone()
        other.execute(f"UPDATE bots_savedrun SET surface = surface WHERE id = {uninstalled.far.pk}")
        with Writers(uninstalled, 2).writing() as writers:
            failed = installation.install(steps.append)
        other.execute("ROLLBACK")
    assert writers.longest_s < LONGEST_WAIT_S
    assert [problem.table for problem in failed] == ["bots_savedrun"]
    assert f"session {pid} of postgres (a nightly job), open for" in failed[0].what
    assert triggers.COMMAND in failed[0].what
    waits = [step for step in steps if "waits up to" in step]
    assert len(waits) == len(installation.WAITS_MS)
    assert all(f"session {pid} of postgres (a nightly job)" in step for step in waits)
    assert sum(installation.WAITS_MS) / 1000 >= LONGEST_WAIT_S > max(installation.WAITS_MS) / 1000
    assert [problem.table for problem in watch.problems()] == ["bots_savedrun", "bots_savedrun"]
    assert str(failed[0]).startswith("bots_savedrun: ")
    assert not installation.install()
    assert not watch.problems()


def test_migrate_goes_on_without_it(
    uninstalled: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "NOWAIT_S", 0.05)
    monkeypatch.setattr(installation, "WAITS_MS", (10,))
    with session() as other:
        other.execute("BEGIN")
        other.execute("UPDATE bots_savedrun SET surface = surface")
        call_command("migrate", verbosity=1)
        other.execute("ROLLBACK")
    told = capsys.readouterr().out
    assert "nothing is captured of bots_savedrun" in told
    assert f"Run later: {triggers.COMMAND}" in told
    call_command("migrate", verbosity=0)
    assert not watch.problems()


def test_migrate_goes_on_with_a_filter_that_does_not_compile(
    sample: Sample, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checks refuse it, but ``migrate`` that is called from code, as by a test runner, runs none."""
    configure(RUN_FILTER=Q(nowhere=1))
    call_command("migrate", verbosity=1)
    told = capsys.readouterr().out
    assert "nothing is captured (Cannot resolve keyword 'nowhere' into field" in told
    assert f"Run later: {triggers.COMMAND}" in told


def test_a_host_transaction_that_holds_both_tables_is_no_deadlocks_victim(
    uninstalled: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written the runs, and then writes the versions, while the triggers of both are made."""
    monkeypatch.setattr(installation, "NOWAIT_S", 0.1)
    with session() as other, beside() as start:
        other.execute("BEGIN")
        other.execute("UPDATE bots_savedrun SET surface = surface")
        installing = start(installation.install)
        until(lambda: waiting("bots_savedrun") or installing.done())
        other.execute("UPDATE bots_publishedrunversion SET number = number")
        other.execute("COMMIT")
        assert installing.result() == []
    assert not watch.problems()


def test_two_at_once(uninstalled: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have seen that the triggers are missing, and wait for the same tables. Neither fails."""
    monkeypatch.setattr(installation, "NOWAIT_S", 0.1)
    with session() as other, beside(2) as start:
        other.execute("BEGIN")
        other.execute("UPDATE bots_savedrun SET surface = surface")
        both = [start(installation.install) for _ in range(2)]
        until(lambda: waiting("bots_savedrun") == 2)
        other.execute("COMMIT")
        assert [each.result() for each in both] == [[], []]
    assert not watch.problems()


def waiting(name: str) -> int:
    """Sessions that wait for a lock on the table."""
    return int(query("SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted", [name])[0][0])


def nothing_to_do(configure: Configure) -> None:
    """Every ``migrate`` looks."""
    steps: list[str] = []
    assert not installation.install(steps.append)
    assert steps == []


def a_changed_function(configure: Configure) -> None:
    """As by a deploy that changes what is captured."""
    configure(SHARDS=3)
    assert not installation.install()
    assert not watch.problems()


def turning_off(configure: Configure) -> None:
    installation.turn_off()
    functions = "SELECT DISTINCT prosrc FROM pg_proc WHERE proname LIKE 'recent\\_workflows\\_%%'"
    assert query(functions) == [(triggers.OFF,)]


@pytest.mark.parametrize("act", [nothing_to_do, a_changed_function, turning_off])
def test_it_takes_no_lock(deployed: Sample, configure: Configure, act: Callable[[Configure], None]) -> None:
    """Not even beside somebody who has locked all of the host's tables against everybody."""
    names = ", ".join(table(model) for model in (resolved().run, resolved().path[0].related_model))
    execute("SET lock_timeout = '2s'")
    try:
        with locked(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"):
            act(configure)
    finally:
        execute("RESET lock_timeout")


def test_the_sql_can_be_run_by_hand(uninstalled: Sample) -> None:
    execute(f"DROP TABLE {CHANGES}")
    for statement in installation.statements():
        execute(statement)
    assert not watch.problems()
    uninstalled.host.save_again(uninstalled.older)
    assert logged() == 1


def test_a_hosts_transaction_test_case_leaves_nothing_in_the_log(live: Host) -> None:
    """It truncates all tables after each test, in one statement."""
    import unittest

    from django.test import TransactionTestCase

    class Case(TransactionTestCase):
        def runTest(self) -> None:  # noqa: N802
            Sample(live)
            live.save_again(live.run_model.objects.first())
            assert logged() > 0

    result = unittest.TestResult()
    for _ in range(2):
        Case()(result)
        assert not [*result.failures, *result.errors]
        assert logged() == 0
