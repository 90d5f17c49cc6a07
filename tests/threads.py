"""Running a part of a test beside the rest of it, and seeing in PostgreSQL where it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections

from tests.waiting import until
from workflows_tasks.transactions import LOCK_CLASS

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
        self._connection.set_autocommit(False)
        with self._connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 30000")
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, self._shard])
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
        self._connection.close()


def waiting_for(shard: int) -> int:
    """How many sessions wait for a shard's lock now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid = %s AND objid = %s AND database = (SELECT oid FROM pg_database WHERE datname = %s)",
            [LOCK_CLASS, shard, connection.settings_dict["NAME"]],
        )
        return int(cursor.fetchone()[0])


def until_waiting(shard: int, sessions: int) -> None:
    until(lambda: waiting_for(shard) == sessions)
