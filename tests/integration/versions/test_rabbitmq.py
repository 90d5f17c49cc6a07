"""The live path through RabbitMQ, with the queues that Celery declares: classic ones and quorum queues.

Nothing but the message of a save can make it visible where beat does not run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from kombu import Connection, Queue

from demo.servers import Process
from tests.integration.versions.project import Project
from tests.programs import of_the_system
from tests.rabbitmq import PROGRAM, RabbitMQ

QUEUES = {"classic": "", "quorum": "tests.integration.versions.quorum"}
"""Celery's configuration for each; the variable of that is Celery's own."""

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("kind", QUEUES, scope="module")]


@pytest.fixture(scope="module")
def rabbitmq(kind: str, room: Path) -> Iterator[RabbitMQ]:
    """A node for each kind: a queue cannot change it."""
    if kind == "quorum" and celery.VERSION < (5, 5):
        pytest.skip("Celery declares quorum queues since 5.5")
    of_the_system(PROGRAM)
    node = RabbitMQ(room / f"rabbitmq-{kind}")
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture
def project(kind: str, rabbitmq: RabbitMQ, servers: dict[str, str], tmp_path: Path) -> Project:
    return Project(tmp_path, {**servers, "CELERY_BROKER_URL": rabbitmq.url, "CELERY_CONFIG_MODULE": QUEUES[kind]})


@pytest.fixture
def worker(project: Project, started: Callable[[Process], Process]) -> Process:
    return started(project.worker())


def test_a_save_is_visible(kind: str, project: Project, worker: Process, rabbitmq: RabbitMQ) -> None:
    """The second time saves come while the first ones' window lasts."""
    for _ in range(2):
        project.show(project.save(20)["workspace"])
    assert declared(rabbitmq) == kind


def test_what_waits_outlasts_the_brokers_restart(
    project: Project, worker: Process, rabbitmq: RabbitMQ, started: Callable[[Process], Process]
) -> None:
    worker.stop()
    saved = project.save(20)
    rabbitmq.restart()
    started(project.worker())
    project.show(saved["workspace"])


def test_a_broker_that_hangs_holds_no_save_up(
    project: Project, worker: Process, rabbitmq: RabbitMQ, started: Callable[[Process], Process]
) -> None:
    rabbitmq.signal(signal.SIGSTOP)
    try:
        saved = project.save(20)
    finally:
        rabbitmq.signal(signal.SIGCONT)
    assert saved["slowest_s"] < 2.0  # the first finds out that nobody answers
    started(project.beat())  # its message is lost; beat looks for what waits without one
    project.show(saved["workspace"])


def declared(rabbitmq: RabbitMQ) -> str:
    """The kind of the package's queue: declaring it again as another kind is refused."""
    with Connection(rabbitmq.url) as connection:
        for kind in QUEUES:
            with connection.channel() as channel:
                arguments: dict[str, Any] = {"x-queue-type": kind}
                try:
                    Queue("recent-workflows", queue_arguments=arguments).bind(channel).queue_declare()
                except connection.channel_errors:
                    continue
                return kind
    return "none"
