"""Running a part of a test beside the rest of it, and seeing in PostgreSQL where it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections

from tests.waiting import until
from workflows_tasks.models import Shard

T = TypeVar("T")


@contextmanager
def beside(count: int = 1) -> Iterator[Callable[[Callable[[], T]], Future[T]]]:
    """Yields ``start(function)``, which runs it in a thread with a database connection of its own."""
    with ThreadPoolExecutor(count) as pool:
        yield lambda function: pool.submit(_and_disconnect, function)


def _and_disconnect(function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        connections.close_all()


class ShardLock:
    """The lock that a flush of a shard takes, held by a connection of its own, as another worker would."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._connection: Any = connection.copy()

    def __enter__(self) -> ShardLock:
        Shard.objects.get_or_create(number=self._shard)
        self._connection.set_autocommit(False)
        with self._connection.cursor() as cursor:
            cursor.execute(f'SELECT FROM "{Shard._meta.db_table}" WHERE number = %s FOR UPDATE', [self._shard])
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
        self._connection.close()


def waiting_for_locks() -> int:
    """How many sessions of this database wait for any lock now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s",
            [connection.settings_dict["NAME"]],
        )
        return int(cursor.fetchone()[0])


def until_waiting(sessions: int) -> None:
    """Return when so many sessions wait for a lock."""
    until(lambda: waiting_for_locks() == sessions)
