"""Waiting for what other processes do: on a condition, for as long as they get on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def until(condition: Callable[[], T], *, within_s: float = 10.0, progress: Callable[[], object] = lambda: None) -> T:
    """Return the first true value of ``condition()``; asking takes a fifth of the time at most.

    Args:
        within_s: seconds to wait from the start, or from the last time that ``progress()`` had another value. So a
            machine under load may be slow, and a wait ends only where nothing moves.

    Raises:
        AssertionError: it was never true. The message has the condition, and how far it was.
    """
    asked_s = moved_s = time.monotonic()
    reached = progress()
    while not (value := condition()):
        now_s = time.monotonic()
        if (now := progress()) != reached:
            reached, moved_s = now, now_s
        assert now_s < moved_s + within_s, f"nothing moved for {within_s:g} s at {reached}: {_described(condition)}"
        time.sleep(max(POLL_S, 4 * (now_s - asked_s)))
        asked_s = time.monotonic()
    return value


def _described(condition: Callable[[], object]) -> str:
    return getattr(condition, "__doc__", None) or inspect.getsource(condition).strip()
