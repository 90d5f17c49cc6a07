"""Counts that a process keeps while Redis, where all others are, does not answer: they go along with the next ids."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

_counts: dict[str, int] = {}
_lock = threading.Lock()


def add(name: str, count: int = 1) -> None:
    """Count something under a name of ``events.COUNTERS``."""
    with _lock:
        _counts[name] = _counts.get(name, 0) + count


def taken() -> dict[str, int]:
    """What was counted since the last time, now the caller's, who puts it back if it did not get through."""
    with _lock:
        counts = dict(_counts)
        _counts.clear()
    return counts


def put_back(counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        add(name, count)


def _begin_anew() -> None:
    """In a child: what its parent counted is the parent's, and the lock may have been held by a thread that is gone."""
    global _lock
    _lock = threading.Lock()
    _counts.clear()


os.register_at_fork(after_in_child=_begin_anew)
