"""Many saves, few messages."""

from __future__ import annotations

import re
import time

import pytest
from pytest_celery import CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, idle
from tests.waiting import until
from workflows_tasks import events, inbox

WINDOW_S = 0.5
SHARDS = 4


@pytest.mark.workers(FLUSH_WINDOW_S=WINDOW_S, SHARDS=SHARDS)
def test_messages_are_bounded_by_windows_and_shards_not_by_saves(celery_setup: CeleryTestSetup, live: Host) -> None:
    workspaces, workflows = [live.make_workspace() for _ in range(20)], [live.make_workflow() for _ in range(3)]
    user = live.make_user()
    runs = [live.make_run(workspace=ws, workflow=wf, user=user) for ws in workspaces for wf in workflows]
    started = time.monotonic()
    saves = len(runs)
    for _ in range(20):
        for run in runs:
            live.save_again(run)
            saves += 1
    until(idle)
    windows = (time.monotonic() - started) / WINDOW_S
    messages = len(re.findall(r"Task workflows_tasks\.tasks\.flush\[\S+ received", celery_setup.worker.logs()))
    assert saves == 21 * len(runs)
    assert 0 < messages <= SHARDS * (windows + 2)
    stats = events.merged(shard.stats for shard in inbox.status())
    assert stats["flushes"] <= messages
    assert_exact(live)
