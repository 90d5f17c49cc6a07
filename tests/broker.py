"""What waits in the real broker's queues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery
from kombu import Queue


def waiting(app: Celery, queue: str) -> int:
    """How many messages a queue holds; none if it does not exist."""
    with _channel(app) as (connection, channel):
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:
            return 0


def take_all(app: Celery, queue: str) -> list[Any]:
    """Take every message out of a queue, as kombu has it: ``headers``, ``payload``; none if there is no queue."""
    taken: list[Any] = []
    with _channel(app) as (connection, channel), suppress(connection.channel_errors):
        bound = Queue(queue).bind(channel)
        while message := bound.get(no_ack=True, accept=["json", "pickle"]):
            taken.append(message)
    return taken


def delete(app: Celery, queue: str) -> None:
    with _channel(app) as (_, channel):
        channel.queue_delete(queue)


@contextmanager
def _channel(app: Celery) -> Iterator[tuple[Any, Any]]:
    with app.connection_for_read() as connection:
        yield connection, connection.default_channel
