"""A second connection, in a thread of its own: what happens while a flush or a fill stands still at a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections

from tests.waiting import until

WITHIN_S = 30.0
"""Most seconds that it may take, with all of its waiting for locks and trying again."""


class Aside:
    """``begin`` something; it is done on return, or waits for a lock of ours. ``end`` when we hold none any more."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._backend: int = thread.submit(_backend).result()
        self._under_way: Future[Any] | None = None

    def begin(self, do: Callable[[], object]) -> None:
        doing = self._under_way = self._thread.submit(do)
        until(lambda: doing.done() or self._waits(), within_s=WITHIN_S)

    def end(self) -> None:
        """Wait for what was begun; raises what it raised."""
        if self._under_way is not None:
            self._under_way.result(WITHIN_S)
            self._under_way = None

    def _waits(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self._backend])
            return bool(cursor.fetchone()[0])


@contextmanager
def aside() -> Iterator[Aside]:
    with ThreadPoolExecutor(1) as thread:
        try:
            yield Aside(thread)
        finally:
            thread.submit(connections.close_all)


def _backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])
