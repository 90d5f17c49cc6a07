"""A model of the nudge, one shard: what the product does is compared with it.

A gate in each process, one marker in Redis whose time to live says when the next flush is due, and one chain of
flushes: each sends the next, and one that finds another due sends none. Discrete events; no tick, nothing lost.
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
PAUSE_S = 5.0


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
    """``Model(rate, processes).run(seconds)``.

    Args:
        outages: the share of a process's round trips that Redis does not answer. 1: there is no Redis.
    """

    def __init__(self, rate: float, processes: int, *, outages: float = 0.0, seed: int = 1) -> None:
        self._rate, self._processes, self._outages = rate, processes, outages
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, tuple[Any, ...]]] = []
        self._order = count()
        self._log: list[float] = []
        self._gates = [0.0] * processes
        self._away_until = [0.0] * processes
        self._marker_due = self._busy_until = self._awake_until = 0.0
        self._marker_until = -1.0
        self._due: float | None = None
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

    def _send(self, now: float, due: float | None = None, *, gated: bool = False) -> None:
        self._messages += 1
        self._at((due or now) + self._random.uniform(0.005, 0.03), "flush", due, gated)

    def _commit(self, now: float, process: int) -> None:
        self._saves += 1
        self._log.append(now)
        self._at(now + self._random.choice((0.0005, 0.001, 0.01)), "nudge", process)

    def _nudge(self, now: float, process: int) -> None:
        if now < self._gates[process]:
            return
        if now >= self._away_until[process]:
            self._round_trips += 1
            if self._random.random() >= self._outages:
                if self._marker_until > now:
                    self._gates[process] = self._marker_due  # what commits until then is in that flush
                else:
                    self._mark(now, now)
                    self._send(now)
                return
            self._away_until[process] = now + PAUSE_S
        self._gates[process] = now + 0.9 * WINDOW_S
        self._send(now, gated=True)

    def _mark(self, now: float, due: float) -> None:
        self._marker_due, self._marker_until = due, max(due, now) + GRACE_S

    def _flush(self, now: float, token: float | None, gated: bool) -> None:
        if gated:
            self._awake_until = now + WINDOW_S
        if now < self._busy_until:  # finds the shard busy
            return
        taken = len(self._log)
        self._log.clear()
        self._busy_until = now + self._random.uniform(0.003, 0.03)
        self._at(self._busy_until, "flushed", taken, token)

    def _flushed(self, now: float, taken: int, token: float | None) -> None:
        another_comes = self._due is not None and self._due > now and self._due != token
        if not another_comes:
            share = min(1.0, taken / CHANGES_A_WINDOW)
            self._due = now + share * WINDOW_S if taken else self._awake_until if self._awake_until > now else None
        if self._due is None:
            self._marker_until = -1.0
            self._at(now + 0.0005, "again")
            return
        self._mark(now, self._due)
        if not another_comes:
            self._send(now, self._due)

    def _again(self, now: float) -> None:
        if self._log and self._marker_until <= now:
            self._mark(now, now)
            self._send(now)
