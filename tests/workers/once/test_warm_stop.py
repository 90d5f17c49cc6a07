"""A worker that is told to stop ends the flush it is in, loses nothing, and leaves the rest to the next one."""

from __future__ import annotations

from signal import SIGTERM

import pytest
from pytest_celery import CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all, stored
from tests.threads import ShardLock, until_waiting
from tests.waiting import until
from workflows_tasks import inbox


@pytest.mark.workers(SHARDS=1)
def test_a_worker_told_to_stop_while_it_writes(celery_setup: CeleryTestSetup, live: Host) -> None:
    worker = celery_setup.worker
    with ShardLock(0):
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
        until_waiting(0, 1)
        worker.kill(SIGTERM)
        until(lambda: "Warm shutdown" in worker.logs())
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
        assert (worker.container.status, inbox.status()[0].claims) == ("running", 1)
    until(lambda: worker.container.status == "exited")
    status = inbox.status()[0]
    assert (len(stored()), status.claims, status.pending) == (2, 0, 1), "what was claimed is written, the rest waits"
    assert "released" not in status.stats
    flush_all()
    assert_exact(live)
