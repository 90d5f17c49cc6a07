"""A host that accepts nothing but pickle and replaces its processes after every task."""

from __future__ import annotations

import re

import pytest
from celery import Celery
from pytest_celery import CeleryTestNode, CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, stored
from tests.waiting import until
from workflows_tasks import inbox


@pytest.fixture
def node_env(node_env: dict[str, str]) -> dict[str, str]:
    host = Celery("a host that pickles")  # current from here on, in this test
    host.conf.update(task_serializer="pickle", accept_content=["pickle"])
    return {**node_env, "CELERY_SERIALIZER": "pickle", "CELERY_MAX_TASKS_PER_CHILD": "1"}


def children_in(logs: str) -> set[str]:
    """The processes of the pool that have done something."""
    return set(re.findall(r"ForkPoolWorker-(\d+)\] Task workflows_tasks\.tasks\.\w+\[\S+ succeeded", logs))


@pytest.mark.workers(SHARDS=1, RESCUE_PERIOD_S=0.5)
def test_it_works_as_any_other(celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    for number in range(1, 4):
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user)
        until(lambda rows=2 * number: len(stored()) == rows)  # type: ignore[misc]
    logs = celery_setup.worker.logs
    until(lambda: len(children_in(logs())) >= 4)
    until(lambda: not inbox.status()[0].claims)
    assert_exact(live)
    assert "Task workflows_tasks.tasks.rescue[" in logs(), "from beat"
    assert "ContentDisallowed" not in logs()
