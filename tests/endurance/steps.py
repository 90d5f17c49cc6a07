"""The steps of a flush and of a fill, and stopping at one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from django.db import connection

from workflows_tasks import inbox, projection
from workflows_tasks.sql import looks


class Step(NamedTuple):
    """A moment: before or after a call of a function."""

    owner: Any
    function: str
    after: bool = False


class Statement(NamedTuple):
    """The moment after the first statement that begins so, inside its transaction."""

    beginning: str


FLUSH: Final = {
    "after the claim": Step(inbox, "claim", after=True),
    "raised, before the commit": Step(projection, "raise_rows", after=True),
    "before the look for stale rows": Step(projection, "stale_rows"),
    "the newest runs found, before the lowering": Step(projection, "lower_rows"),
    "lowered, before the commit": Step(projection, "lower_rows", after=True),
    "before the second look for stale rows": Step(projection, "_lower", after=True),
    "before the acknowledgement": Step(inbox, "acknowledge"),
}
FILL: Final[dict[str, Step | Statement]] = {
    "filled, before the commit": Statement("WITH filled AS"),
    "before the look for stale rows": Step(looks, "stale_in_range"),
}


class Interrupted(BaseException):
    """What a crash looks like from inside: nothing after it is done, and nobody catches it."""


def interrupt() -> None:
    raise Interrupted


def nothing() -> None:
    pass


@contextmanager
def at(moment: Step | Statement, do: Callable[[], None]) -> Iterator[None]:
    """Within, when ``moment`` is first reached, ``do`` is called."""
    with _at_step(moment, do) if isinstance(moment, Step) else _after_statement(moment, do):
        yield


@contextmanager
def _at_step(step: Step, do: Callable[[], None]) -> Iterator[None]:
    real = getattr(step.owner, step.function)
    reached = False

    def stepped(*args: Any, **kwargs: Any) -> Any:
        nonlocal reached
        now, reached = not reached, True
        if now and not step.after:
            do()
        result = real(*args, **kwargs)
        if now and step.after:
            do()
        return result

    setattr(step.owner, step.function, stepped)
    try:
        yield
    finally:
        setattr(step.owner, step.function, real)


@contextmanager
def _after_statement(statement: Statement, do: Callable[[], None]) -> Iterator[None]:
    reached = False

    def stepped(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal reached
        result = execute(sql, *rest)
        if not reached and sql.startswith(statement.beginning):
            reached = True
            do()
        return result

    with connection.execute_wrapper(stepped):
        yield
