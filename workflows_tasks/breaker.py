"""A circuit breaker: after a failure, leave the failed service alone for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Breaker:
    """Keeps one outage from costing every save its timeout, and from being logged once per save.

    Per process. Two threads may race for an attempt; that costs one timeout more and nothing else.
    """

    name: str
    _closed_again_at: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)

    @property
    def is_open(self) -> bool:
        """True while calls should not be tried."""
        return self._failures > 0 and time.monotonic() < self._closed_again_at

    def fail(self, pause_s: float) -> bool:
        """Note a failure; do not try again for ``pause_s`` seconds. True if this is the outage's first."""
        self._closed_again_at = time.monotonic() + pause_s
        self._failures += 1
        return self._failures == 1

    def succeed(self) -> bool:
        """Note a success. True if it ends an outage."""
        ended, self._failures = self._failures > 0, 0
        return ended
