"""The live path through RabbitMQ, with the queues that Celery declares: classic ones and quorum queues.

Nothing but the message of a save can make it visible where beat does not run.
"""

from __future__ import annotations

import runpy
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from kombu import Connection, Queue
from pytest_celery import CeleryTestBroker, CeleryTestNode, CeleryTestSetup

from tests.commands import ROOT
from tests.conftest import AS_SHIPPED
from tests.hosts.adapter import Host
from tests.nodes import GivenBroker
from tests.oracle import expected, stored
from tests.programs import of_the_system
from tests.rabbitmq import PROGRAM, RabbitMQ
from tests.waiting import until

QUEUES = {"classic": "", "quorum": "tests.integration.versions.quorum"}
"""Celery's configuration for each; the variable of that is Celery's own."""

pytestmark = [
    pytest.mark.host_independent,
    pytest.mark.timeout(120),
    pytest.mark.workers(**AS_SHIPPED),
    pytest.mark.parametrize("kind", QUEUES, scope="module"),
]


@pytest.fixture(scope="module")
def rabbitmq(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A node for each kind: a queue cannot change it."""
    if kind == "quorum" and celery.VERSION < (5, 5):
        pytest.skip("Celery declares quorum queues since 5.5")
    of_the_system(PROGRAM)
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq") / kind)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture
def celery_broker(kind: str, rabbitmq: RabbitMQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CeleryTestBroker:
    """That node, for a host's app that is configured for its kind of queues: here and in the worker."""
    monkeypatch.setenv("CELERY_BROKER_URL", rabbitmq.url)
    monkeypatch.setenv("CELERY_CONFIG_MODULE", QUEUES[kind])
    runpy.run_path(str(ROOT / "celeryconfig.py"))  # its app is the current one from here on
    return CeleryTestBroker(GivenBroker(tmp_path, rabbitmq.url))


def save(host: Host) -> float:
    """Twenty saves of a new workspace; returns how long the slowest took."""
    workspace, workflow, user = host.make_workspace(), host.make_workflow(), host.make_user()
    slowest_s = 0.0
    for _ in range(20):
        began_s = time.monotonic()
        host.make_run(workspace=workspace, workflow=workflow, user=user)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s


def until_exact(host: Host) -> None:
    until(lambda: set(stored()) == set(expected(host)), within_s=30)


def test_a_save_is_visible(
    celery_setup: CeleryTestSetup, live: Host, rabbitmq: RabbitMQ, kind: str, alone: str
) -> None:
    """The second time saves come while the first ones' window lasts."""
    for _ in range(2):
        save(live)
        until_exact(live)
    assert declared(rabbitmq, alone) == kind


def test_what_waits_outlasts_the_brokers_restart(celery_setup: CeleryTestSetup, live: Host, rabbitmq: RabbitMQ) -> None:
    worker = celery_setup.worker
    worker.kill()
    save(live)
    rabbitmq.restart()
    worker.container.start()
    until_exact(live)


def test_a_broker_that_hangs_holds_no_save_up(
    celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host, rabbitmq: RabbitMQ
) -> None:
    """The message is lost; beat looks for what waits without one."""
    rabbitmq.signal(signal.SIGSTOP)
    try:
        slowest_s = save(live)
    finally:
        rabbitmq.signal(signal.SIGCONT)
    assert slowest_s < 2.0  # the first finds out that nobody answers
    until_exact(live)


def declared(rabbitmq: RabbitMQ, queue: str) -> str:
    """The kind of a queue: declaring it again as another kind is refused."""
    with Connection(rabbitmq.url) as connection:
        for kind in QUEUES:
            with connection.channel() as channel:
                arguments: dict[str, Any] = {"x-queue-type": kind}
                try:
                    Queue(queue, queue_arguments=arguments).bind(channel).queue_declare()
                except connection.channel_errors:
                    continue
                return kind
    return "none"
