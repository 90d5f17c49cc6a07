"""What goes wrong at random during a soak, and how each is put right some seconds later."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis

from tests.endurance.stage import SETTINGS, Stage, pause, resume
from workflows_tasks import events, inbox
from workflows_tasks.errors import InboxUnavailable

LONGEST_PAUSE_S = 1.4 * SETTINGS["CLAIM_LEASE_S"]
"""Past its lease: another worker has taken over what the paused one holds when that goes on."""


@dataclass
class Disasters:
    """Call ``tick`` often: now and then something happens, and what happened earlier is put right.

    Args:
        every_s: mean seconds from one to the next.
    """

    stage: Stage
    every_s: float
    draw: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    """Counters of inboxes that were emptied, as they were just before."""

    _repairs: dict[Any, tuple[float, Callable[[], None]]] = field(default_factory=dict, init=False)
    _next_s: float = field(default=0.0, init=False)

    def tick(self) -> None:
        now = time.monotonic()
        for broken, (due_s, repair) in list(self._repairs.items()):
            if now >= due_s:
                repair()
                del self._repairs[broken]
        self._replace_the_ended()
        self._next_s = self._next_s or now + self.every_s
        if now >= self._next_s:
            self._next_s = now + self.draw.expovariate(1 / self.every_s)
            self._strike()

    def put_right(self) -> None:
        """Repair all that is broken now; no more disasters."""
        for _, repair in self._repairs.values():
            repair()
        self._repairs.clear()
        self.stage.start_celery()

    def _replace_the_ended(self) -> None:
        """Celery gives up now and then when its broker goes while it starts; a supervisor starts it again."""
        for container in self.stage.celery:
            if container.status != "running" and id(container) not in self._repairs:
                container.launch()
                self.counts["ended by itself"] += 1

    def _strike(self) -> None:
        (kind,) = self.draw.choices(
            [self._kill_worker, self._pause_worker, self._kill_broker, self._empty_inbox, self._kill_inbox,
             self._restart_database, self._kill_beat],
            [6, 6, 2, 2, 1, 2, 1],
        )  # fmt: skip
        kind()

    def _breaks(self, broken: Any, name: str, repair: Callable[[], None], *, for_s: float) -> bool:
        """Note a disaster and when it ends; False if that is broken already."""
        key = id(broken)
        if key in self._repairs:
            return False
        self._repairs[key] = (time.monotonic() + self.draw.uniform(0, for_s), repair)
        self.counts[name] += 1
        return True

    def _kill_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        if self._breaks(worker, "workers killed", worker.launch, for_s=2):
            worker.kill(signal.SIGKILL)

    def _pause_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        if self._breaks(worker, "workers paused", partial(resume, worker), for_s=LONGEST_PAUSE_S):
            pause(worker)

    def _kill_beat(self) -> None:
        if self._breaks(self.stage.beat, "beat killed", self.stage.beat.launch, for_s=2):
            self.stage.beat.kill(signal.SIGKILL)

    def _kill_broker(self) -> None:
        if self._breaks(self.stage.broker, "broker killed", self.stage.broker.start, for_s=4):
            self.stage.broker.stop()

    def _kill_inbox(self) -> None:
        if self._breaks(self.stage.inbox, "inbox server killed", self.stage.inbox.start, for_s=3):
            self.remember_counters()
            self.stage.inbox.stop()

    def _empty_inbox(self) -> None:
        if self._breaks(self.stage.inbox, "inbox emptied", lambda: None, for_s=0):
            self.remember_counters()
            with redis.Redis.from_url(self.stage.inbox.url) as client:
                client.flushall()

    def _restart_database(self) -> None:
        sig, how = self.draw.choice([(signal.SIGINT, "restarted"), (signal.SIGQUIT, "crashed")])
        if self._breaks(self.stage.postgresql, f"database {how}", self.stage.postgresql.start, for_s=2):
            self.stage.postgresql.stop(sig)

    def remember_counters(self) -> None:
        try:
            found = events.merged(shard.stats for shard in inbox.status())
        except InboxUnavailable:
            return
        self.seen.update({name: round(found.get(name, 0)) for name in events.COUNTERS})
