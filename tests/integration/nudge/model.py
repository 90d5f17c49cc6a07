"""A model of the nudge, one shard: what the product does is compared with it.

A gate in each process, one marker in Redis whose time to live says when the next flush is due, flushes that send the
next one. Discrete events; no tick, nothing lost.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import count
from typing import Any

WINDOW_S = 1.0
CHANGES_A_WINDOW = 5
GRACE_S = 8.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a number of saves cost."""

    saves: int
    messages: int
    round_trips: int
    seconds: float
    left: int = 0
    """Changes that nobody flushed."""

    @property
    def messages_a_save(self) -> float:
        return self.messages / max(self.saves, 1)

    @property
    def round_trips_a_save(self) -> float:
        return self.round_trips / max(self.saves, 1)


class Model:
    """``Model(rate, processes).run(seconds)``."""

    def __init__(self, rate: float, processes: int, *, has_redis: bool = True, seed: int = 1) -> None:
        self._rate, self._processes, self._has_redis = rate, processes, has_redis
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, tuple[Any, ...]]] = []
        self._order = count()
        self._log: list[float] = []
        self._gates = [0.0] * processes
        self._due = self._busy_until = 0.0
        self._marker_until = -1.0
        self._messages = self._round_trips = self._saves = 0

    def run(self, seconds: float) -> Outcome:
        moment = 0.0
        while self._rate and (moment := moment + self._random.expovariate(self._rate)) < seconds:
            self._at(moment, "commit", self._random.randrange(self._processes))
        while self._events:
            now, _, (kind, *rest) = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(now, *rest)
        return Outcome(self._saves, self._messages, self._round_trips, seconds, len(self._log))

    def _at(self, moment: float, *what: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what))

    def _send(self, now: float, delay_s: float) -> None:
        self._messages += 1
        self._at(now + delay_s + self._random.uniform(0.005, 0.03), "flush")

    def _commit(self, now: float, process: int) -> None:
        self._saves += 1
        self._log.append(now)
        self._at(now + self._random.choice((0.0005, 0.001, 0.01)), "nudge", process)

    def _nudge(self, now: float, process: int) -> None:
        if now < self._gates[process]:
            return
        if not self._has_redis:
            self._gates[process] = now + 0.9 * WINDOW_S
            self._send(now, 0)
            return
        self._round_trips += 1
        if self._marker_until > now:
            self._gates[process] = self._due  # what commits until then is in that flush, which never comes early
            return
        self._due, self._marker_until = now, now + GRACE_S
        self._send(now, 0)

    def _flush(self, now: float) -> None:
        if now < self._busy_until:  # finds the shard busy
            return
        taken = len(self._log)
        self._log.clear()
        self._busy_until = now + self._random.uniform(0.003, 0.03)
        self._at(self._busy_until, "flushed", taken)

    def _flushed(self, now: float, taken: int) -> None:
        if taken:
            share = min(1.0, taken / CHANGES_A_WINDOW) if self._has_redis else 1.0
            self._due, self._marker_until = now + share * WINDOW_S, now + share * WINDOW_S + GRACE_S
            self._send(now, share * WINDOW_S)
            return
        self._marker_until = -1.0
        self._at(now + 0.0005, "again")

    def _again(self, now: float) -> None:
        if self._log and self._marker_until <= now:
            self._due, self._marker_until = now, now + GRACE_S
            self._send(now, 0)
