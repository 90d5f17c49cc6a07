"""Counts that a process keeps while it cannot put them where all others are, in Redis: they go along with the next ids
that get through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_counts: Final[dict[str, int]] = {}


def add(name: str, count: int = 1) -> None:
    """Count something under a name of ``events.COUNTERS``. Two threads at once may lose one; nobody waits for a lock,
    which, held while a process forks, would never be free in its child."""
    _counts[name] = _counts.get(name, 0) + count


def taken() -> dict[str, int]:
    """What was counted since the last time, now the caller's, who puts it back if it did not get through."""
    return {name: count for name in list(_counts) if (count := _counts.pop(name, 0))}


def put_back(counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        add(name, count)
