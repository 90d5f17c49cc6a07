"""Interleavings, step by step: actors in threads, each with a database connection of its own.

As in PostgreSQL's isolation tests nothing waits for time to pass. An actor stands still because another connection
holds a lock that it needs, which the server reports, or because it was told to pause at a step.
``Actor.stands()`` returns when it does either, or is done; what comes next in the test then really comes next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, TypeVar

import pytest
from django.db import connection, connections, transaction

from tests.waiting import until
from workflows_tasks import dispatch, inbox, projection, truth
from workflows_tasks.sql import looks, writes

T = TypeVar("T")

WITHIN_S: Final = 20.0
STEPS: Final[dict[str, tuple[Any, str]]] = {
    "claimed": (inbox, "claim"),
    "raised": (projection, "raise_rows"),
    "looked": (projection, "stale_rows"),
    "found light": (writes, "newest_in_light"),
    "searched": (projection, "newest"),
    "lowered": (projection, "lower_rows"),
    "filled": (looks, "stale_in_range"),
    "compared": (truth, "compare"),
    "asked the inbox": (inbox, "where_is"),
}
"""Where an actor can pause: right after a function. (A statement that was made is not executed yet.)"""

BEFORE: Final[dict[str, tuple[Any, str]]] = {
    "about to announce": (dispatch, "deliver"),
    "about to look": (projection, "stale_rows"),
}
"""And right before one: a transaction is committed, and the inbox, or the flush itself, does not know yet."""

WRITTEN: Final = "written"
"""And where a test's own function says so, with ``pause_here``."""

_here: Final = threading.local()


class Killed(BaseException):
    """What being killed looks like from inside: nothing after it is done, and nobody catches it."""


class Actor(Generic[T]):
    """Calls ``act`` in a thread; ``finish`` returns what it returned, or raises what it raised.

    Args:
        pauses: steps at which to stand still, each once and in this order, until ``go_on`` or ``finish``.
    """

    def __init__(self, act: Callable[[], T], *pauses: str) -> None:
        assert set(pauses) <= {*STEPS, *BEFORE, WRITTEN}
        self._act = act
        self._pauses = list(pauses)
        self._paused, self._resumed, self._started = threading.Event(), threading.Event(), threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._is_killed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
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

    def finish(self, *, within_s: float = WITHIN_S) -> T:
        """Let it go on to its end."""
        self._pauses.clear()
        self._resumed.set()
        self._thread.join(within_s)
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

    def _run(self) -> None:
        try:
            _here.actor = self
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self._backend = cursor.fetchone()[0]
            self._started.set()
            self._results.append(self._act())
        except BaseException as error:  # told by finish(), in the thread that waits for it
            self._error = error
        finally:
            self._started.set()
            connections.close_all()

    def reached(self, step: str) -> None:
        """Called in its thread."""
        if self._pauses[:1] == [step]:
            self._pauses.pop(0)
            self._resumed.clear()
            self._paused.set()
            assert self._resumed.wait(WITHIN_S), f"nobody let it go on: {step}"
            if self._is_killed:
                raise Killed


def pause_here() -> None:
    """Stand still, in an actor that pauses at ``WRITTEN``."""
    _here.actor.reached(WRITTEN)


def make_steps_pausable(monkeypatch: pytest.MonkeyPatch) -> None:
    for step, (module, name) in {**STEPS, **BEFORE}.items():
        monkeypatch.setattr(module, name, _pausable(step, getattr(module, name)))


def _pausable(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def stepped(*args: Any, **kwargs: Any) -> Any:
        actor: Actor[Any] | None = getattr(_here, "actor", None)
        if actor is not None and step in BEFORE:
            actor.reached(step)
        result = function(*args, **kwargs)
        if actor is not None and step in STEPS:
            actor.reached(step)
        return result

    return stepped


@contextmanager
def another_connection() -> Iterator[Any]:
    """A connection beside this thread's own, as a host's other process has it; closed, so rolled back, at the end."""
    other = connection.copy()
    try:
        with other.cursor():
            yield other
    finally:
        other.close()


@contextmanager
def locked(statement: str, *params: Any) -> Iterator[None]:
    """Another connection's open transaction that holds what ``statement`` locks, until the block ends."""
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement, params)
        yield
        cursor.execute("ROLLBACK")


@contextmanager
def open_transaction(write: Callable[[], None]) -> Iterator[Callable[[], None]]:
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
