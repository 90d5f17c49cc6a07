"""Waiting for what other processes do: on a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


def until(condition: Callable[[], T], *, within_s: float = 10.0) -> T:
    """Return the first true value of ``condition()``.

    Raises:
        AssertionError: it was never true.
    """
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {within_s:g} s: {getattr(condition, '__doc__', None)}"
        time.sleep(POLL_S)
    return value
