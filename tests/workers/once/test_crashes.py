"""Workers die in the middle of a flush: what they had claimed is found, and the table ends exact."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest
from pytest_celery import CeleryTestNode, CeleryTestSetup, CeleryTestWorker

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, stored
from tests.threads import ShardLock, until_waiting
from tests.waiting import until
from workflows_tasks import inbox

SHORT = {"SHARDS": 1, "RESCUE_PERIOD_S": 0.5, "CLAIM_LEASE_S": 3.0, "FLUSH_TIME_LIMIT_S": 2.9}


def whole(worker: CeleryTestWorker) -> None:
    """All of it at once."""
    worker.kill()
    assert worker.container.status == "exited"


def children(worker: CeleryTestWorker) -> None:
    """The processes of its pool, as the kernel does when memory runs out; the worker itself goes on."""
    for child in psutil.Process(worker.container.pid).children():
        child.send_signal(signal.SIGKILL)


@pytest.mark.workers(**SHORT)
@pytest.mark.parametrize("kill", [whole, children])
def test_a_worker_killed_while_it_writes(
    celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host, kill: Callable[[CeleryTestWorker], None]
) -> None:
    with ShardLock(0):
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
        until_waiting(0, 1)
        assert inbox.status()[0].claims == 1
        kill(celery_setup.worker)
        until_waiting(0, 0)
        shard = inbox.status()[0]
        assert (stored(), shard.claims + shard.pending) == ([], 1), "still claimed, or given back already"
    if celery_setup.worker.container.status == "exited":
        celery_setup.worker.container.start()  # as by a supervisor
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    until(lambda: len(stored()) == 4, within_s=20)
    until(lambda: not inbox.status()[0].claims)
    assert_exact(live)
    assert inbox.status()[0].stats["released"] == 1


@pytest.mark.workers(**SHORT)
def test_a_message_that_was_lost(celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
    """A shard has ids and a marker, and no message: the marker expires, and the rescuer sends another."""
    assert inbox.mark(0)
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    until(lambda: len(stored()) == 2)
    assert_exact(live)
