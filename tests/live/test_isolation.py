"""Interleavings of flushes and commits, stepped with real locks: exact whatever the host's isolation level."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from tests.conftest import Configure
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact, flush_all
from tests.threads import ShardLock, beside, until_waiting
from workflows_tasks import inbox
from workflows_tasks.flush import flush


@pytest.fixture(params=["READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE"])
def isolation(request: pytest.FixtureRequest, live: Host, configure: Configure) -> Iterator[Host]:
    """A host that has made this its database's default, and one shard."""
    configure(SHARDS=1)
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["isolation_level"] = getattr(IsolationLevel, request.param)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == (request.param.replace("_", " ").lower(),)
    yield live
    connection.close()
    del options["isolation_level"]


class Scene:
    """One key whose row is its newest run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._key: dict[str, Any] = {
            "workspace": host.make_workspace(),
            "workflow": host.make_workflow(),
            "user": host.make_user(),
        }

    def run(self, minute: float) -> Any:
        return self._host.make_run(**self._key, used_at=moment(minute))


def test_a_run_committed_while_a_flush_looks_for_the_next_newest(isolation: Host) -> None:
    """The row's run is deleted. While its flush waits to write the next newest, a run between the two commits; its own
    flush finds the row still newer and leaves it. The waiting flush must see that run, although it began earlier."""
    scene = Scene(isolation)
    scene.run(4)
    newest = scene.run(5)
    flush_all()
    newest.delete()
    late: list[Future[Any]] = []

    def between() -> None:
        with ShardLock(0):
            until_waiting(0, 1)  # the deletion's flush, to lower the row
            scene.run(4.5)
            late.append(start(lambda: flush(0)))
            until_waiting(0, 2)

    with beside(3) as start:
        with ShardLock(0):
            deletion = start(lambda: flush(0))
            until_waiting(0, 1)  # to raise rows
            held = start(between)
            until_waiting(0, 2)
        held.result()
        deletion.result()
        late[0].result()
    flush_all()
    assert_exact(isolation)


def test_a_run_that_changes_while_its_flush_waits(isolation: Host) -> None:
    scene = Scene(isolation)
    run = scene.run(4)
    with beside() as start:
        with ShardLock(0):
            flushed = start(lambda: flush(0))
            until_waiting(0, 1)
            isolation.hide(run)
        flushed.result()
    assert inbox.status()[0].pending == 1
    flush_all()
    assert assert_exact(isolation) == []


def test_two_flushes_of_one_shard_are_one_after_the_other(isolation: Host) -> None:
    scene = Scene(isolation)
    with beside(3) as start:
        flushes: list[Future[Any]] = []
        with ShardLock(0):
            for minute in range(3):
                scene.run(minute)
                flushes.append(start(lambda: flush(0)))
                until_waiting(0, minute + 1)
        for each in flushes:
            each.result()
    assert {row.used_at for row in assert_exact(isolation)} == {moment(2)}
