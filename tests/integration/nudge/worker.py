"""A real Celery worker in a thread of this process, which counts the flush messages that it gets, by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging, task_postrun, task_received
from django.db import connections
from kombu.asynchronous import set_event_loop

from tests import broker
from tests.waiting import until
from workflows_tasks.projection import backlog


class Worker:
    """What it has been sent."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app, self._queue = app, queue
        self.messages: Counter[int] = Counter()
        self.processed = 0

    def received(self, request: Any, **_: Any) -> None:
        if request.args:  # a tick has none
            self.messages[request.args[0]] += 1

    def until_idle(self) -> Counter[int]:
        """Wait until every chain of messages has ended; returns the messages of each shard."""
        until(self._is_idle, within_s=30)
        return self.messages

    def _is_idle(self) -> bool:
        """No change waits, and no message is under way: a chain's last one finds nothing within a window."""
        from celery.worker.state import active_requests, reserved_requests

        return not (
            any(shard.pending for shard in backlog.status())
            or reserved_requests
            or active_requests
            or broker.waiting(self._app, self._queue)
        )


@contextmanager
def working(app: Celery, queue: str) -> Iterator[Worker]:
    """A worker on one queue."""
    worker = Worker(app, queue)
    task_received.connect(worker.received)
    task_postrun.connect(_close_connections)
    setup_logging.connect(_as_it_is)  # or Celery would set the root logger's level, for every later test
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, queues=[queue], loglevel="ERROR"):
            yield worker
    finally:
        set_event_loop(None)  # or the next worker would run this one's, and its own timer would never fire
        task_received.disconnect(worker.received)
        task_postrun.disconnect(_close_connections)
        setup_logging.disconnect(_as_it_is)


def _close_connections(**_: Any) -> None:
    """Those of the worker's thread. psycopg2 keeps them open when the thread has ended, and the database in use."""
    connections.close_all()


def _as_it_is(**_: Any) -> None:
    """Logging is the tests' own matter."""
