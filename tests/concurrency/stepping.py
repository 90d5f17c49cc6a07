"""Interleavings, step by step: actors in threads, each with a database connection of its own.

As in PostgreSQL's isolation tests nothing waits for time to pass. An actor stands still because another connection
holds a lock that it needs, which the server reports, or because it was told to pause at one of its statements.
``Actor.stands()`` returns when it does either, or is done; what comes next in the test then really comes next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from django.db import connection, connections, transaction

from tests.waiting import until
from workflows_tasks.models import CHANGES, Shard, WorkspaceRecentWorkflow

T = TypeVar("T")

WITHIN_S: Final = 20.0
TABLE: Final = WorkspaceRecentWorkflow._meta.db_table

BEFORE: Final = {
    "about to begin": "set_config(%s",
    "about to compare": "LOCK TABLE",
    "about to forget": f'DELETE FROM "{CHANGES}" WHERE id = ANY',
    "about to write": f'INSERT INTO "{TABLE}"',
    "about to recompute": "WITH locked AS MATERIALIZED",
}
"""Where an actor can pause: right before a statement that has these words. The transaction before is committed."""

AFTER: Final = {
    "locked": f'FROM "{Shard._meta.db_table}"',
    "taken": "array_agg(id::text),",
    "scope taken": "AND run IS NULL AND",
    "decided": "concerned AS",
    "searched": ")) IS TRUE",
    "written": f'INSERT INTO "{TABLE}"',
    "recomputed": "WITH locked AS MATERIALIZED",
    "compared": "difference AS MATERIALIZED",
    "logged": f'INSERT INTO "{CHANGES}"',
    "forgotten": f'DELETE FROM "{CHANGES}" WHERE id = ANY',
}
"""And right after one."""


_begun: Final[list[Actor[Any]]] = []
"""Actors of this test."""


def end_actors() -> None:
    """Kill those that a test which failed has left standing: they hold locks."""
    while _begun:
        _begun.pop().end()


class Killed(BaseException):
    """What being killed looks like from inside: nothing after it is done, and nobody catches it."""


class Actor(Generic[T]):
    """Calls ``act`` in a thread; ``finish`` returns what it returned, or raises what it raised.

    Args:
        pauses: steps at which to stand still, each once and in this order, until ``go_on`` or ``finish``.
    """

    def __init__(self, act: Callable[[], T], *pauses: str) -> None:
        assert set(pauses) <= {*BEFORE, *AFTER}
        self._act = act
        self._pauses = list(pauses)
        self._paused, self._resumed, self._started = threading.Event(), threading.Event(), threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._is_killed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        _begun.append(self)
        assert self._started.wait(WITHIN_S)

    def stands(self) -> Actor[T]:
        """Wait until it is paused, or waits for a lock, or is done."""
        until(lambda: self.is_paused or not self._thread.is_alive() or self.waits, within_s=WITHIN_S)
        return self

    @property
    def waits(self) -> bool:
        """Whether it waits for a lock that another connection holds."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self._backend])
            return bool(cursor.fetchone()[0])

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_paused(self) -> bool:
        """Whether it stands at one of its pauses."""
        return self._paused.is_set()

    def go_on(self) -> Actor[T]:
        """Let it go on to its next pause, or as far as it comes."""
        assert self.is_paused
        self._paused.clear()
        self._resumed.set()
        return self.stands()

    def finish(self) -> T:
        """Let it go on to its end."""
        self._pauses.clear()
        self._resumed.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), "still at it"
        if self._error is not None:
            raise self._error
        return self._results[0]

    def kill(self) -> None:
        """Let it end where it is paused. Its connection is closed, and what it had not committed rolled back."""
        assert self.is_paused
        self._is_killed = True
        with suppress(Killed):
            self.finish()

    def end(self) -> None:
        """Let it end, wherever it is; what it raises does not matter any more."""
        self._is_killed = self._is_killed or self.is_paused
        with suppress(BaseException):
            self.finish()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self._backend = cursor.fetchone()[0]
            self._started.set()
            with connection.execute_wrapper(self._at_each_statement):
                self._results.append(self._act())
        except BaseException as error:  # told by finish(), in the thread that waits for it
            self._error = error
        finally:
            self._started.set()
            connections.close_all()

    def _at_each_statement(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        self._pause_at(BEFORE, sql)
        result = execute(sql, params, many, context)
        self._pause_at(AFTER, sql)
        return result

    def _pause_at(self, steps: dict[str, str], sql: Any) -> None:
        words = steps.get(self._pauses[0]) if self._pauses else None
        if words is None or words not in str(sql):
            return
        self._pauses.pop(0)
        self._resumed.clear()
        self._paused.set()
        assert self._resumed.wait(WITHIN_S), "nobody let it go on"
        if self._is_killed:
            raise Killed


@contextmanager
def open_transaction(write: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Another connection's transaction that has written and is still open; what it yields commits it."""
    committing = threading.Event()
    written = threading.Event()

    def act() -> None:
        with transaction.atomic():
            write()
            written.set()
            assert committing.wait(WITHIN_S)

    actor = Actor(act)
    assert written.wait(WITHIN_S)

    def commit() -> None:
        committing.set()
        actor.finish()

    try:
        yield commit
    finally:
        commit()
