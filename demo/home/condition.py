"""How fresh and how complete the home page is, and what a visitor is told about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.core.cache import cache as shared

from demo import measure
from demo.measure import Freshness
from workflows_tasks.errors import InboxUnavailable

LATE_S = 10.0
"""Changes that wait longer than this are worth a notice."""

BEHIND_S: Final = (10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""How late a notice says that the page is, in steps: a screen reader says it anew each time it changes."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How late the page may be, now and in the last minutes."""

    freshness: Freshness | None
    """None while the inbox does not answer."""
    lately: Mapping[str, float]

    @classmethod
    def now(cls) -> Pipeline:
        try:
            freshness = Freshness.now()
        except InboxUnavailable:
            return cls(None, {})
        minute = int(time.monotonic() // 60)
        shared.add(f"counters-{minute}", freshness, timeout=180)
        before = shared.get(f"counters-{minute - 1}")
        return cls(freshness, freshness.since(before) if before else freshness.counters)

    @property
    def flushes(self) -> int:
        return int(self.lately.get("flushes", 0))

    @property
    def runs_a_flush(self) -> float | None:
        return self.lately.get("flushed_runs", 0) / self.flushes if self.flushes else None

    @property
    def p50_s(self) -> float | None:
        return measure.lag_s(self.lately, 0.50)

    @property
    def p99_s(self) -> float | None:
        return measure.lag_s(self.lately, 0.99)


@dataclass(frozen=True, slots=True)
class Condition:
    """The page's condition in a word, and a notice where a visitor should know more."""

    state: str
    """``live``, ``filling``, ``late`` or ``unknown``."""
    word: str
    notice: str = ""

    @classmethod
    def of(cls, pipeline: Pipeline, *, filling: bool) -> Condition:
        """The worst of what is the case."""
        if pipeline.freshness is None:
            return cls("unknown", "Not updated", f"Recent workflows cannot be updated at the moment. {_NOTHING_LOST}")
        if pipeline.freshness.waiting_s > LATE_S:
            behind = _behind(pipeline.freshness.waiting_s)
            return cls("late", "Behind", f"Recent workflows are more than {behind} behind. {_NOTHING_LOST}")
        if filling:
            return cls("filling", "Filling in", "Older workflows are not all in yet. What is run now appears at once.")
        return cls("live", "Live")


_NOTHING_LOST: Final = "Nothing is lost; they catch up by themselves."


def _behind(seconds: float) -> str:
    step = max((step for step in BEHIND_S if step <= seconds), default=BEHIND_S[0])
    return f"{step // 60} minutes" if step > 60 else f"{step} seconds"
