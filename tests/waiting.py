"""Waiting for what other processes do: on a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def until(condition: Callable[[], T], *, within_s: float = 10.0) -> T:
    """Return the first true value of ``condition()``; asking takes a fifth of the time at most.

    Raises:
        AssertionError: it was never true.
    """
    asked_s = time.monotonic()
    deadline_s = asked_s + within_s
    while not (value := condition()):
        now_s = time.monotonic()
        assert now_s < deadline_s, f"not true within {within_s:g} s: {getattr(condition, '__doc__', None)}"
        time.sleep(max(POLL_S, 4 * (now_s - asked_s)))
        asked_s = time.monotonic()
    return value
