"""The broker dies with messages in it and comes back empty, while saves go on."""

from __future__ import annotations

import pytest
from pytest_celery import CeleryTestBroker, CeleryTestNode, CeleryTestSetup

from tests.hosts.adapter import Host
from tests.oracle import assert_exact, idle
from tests.waiting import until

SHORT = {"RESCUE_PERIOD_S": 0.5, "BREAKER_S": 0.5, "CLAIM_LEASE_S": 5.0, "FLUSH_TIME_LIMIT_S": 4.0}


@pytest.fixture
def celery_broker(own_broker: CeleryTestBroker) -> CeleryTestBroker:
    """One that may be killed."""
    return own_broker


@pytest.mark.workers(**SHORT)
def test_no_save_is_lost_or_hindered(celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
    workspaces, workflow, user = [live.make_workspace() for _ in range(8)], live.make_workflow(), live.make_user()
    worker = celery_setup.worker.container

    def save_some() -> None:
        for workspace in workspaces:
            live.make_run(workspace=workspace, workflow=workflow, user=user)

    def settled() -> bool:
        if worker.status == "exited":  # kombu may fail to reconnect while it holds messages; then a supervisor acts
            worker.start()
        return idle()

    save_some()  # their messages are lost, or half done
    celery_setup.broker.kill()
    assert celery_setup.broker.container.status == "exited"
    save_some()
    celery_setup.broker.container.start()
    save_some()
    until(settled, within_s=30)
    assert len(assert_exact(live)) == 16
