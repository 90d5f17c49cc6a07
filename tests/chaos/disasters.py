"""What goes wrong at random during a soak, and how each is put right some seconds later."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import psycopg
import redis

from tests.chaos.stage import Stage
from tests.nodes import ProcessContainer


def send_to_all(container: ProcessContainer, sig: signal.Signals) -> None:
    """To a worker and the processes of its pool."""
    with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
        process = psutil.Process(container.pid)
        for each in [process, *process.children(recursive=True)]:
            each.send_signal(sig)


@dataclass
class Disasters:
    """Call ``tick`` often: now and then something happens, and what happened earlier is put right.

    Args:
        every_s: mean seconds from one to the next.
        pause_s: most seconds for which a worker stands still: past what a flush's session may.
    """

    stage: Stage
    every_s: float
    pause_s: float
    draw: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    _repairs: dict[int, tuple[float, Callable[[], object]]] = field(default_factory=dict, init=False)
    _next_s: float = field(default=0.0, init=False)

    def tick(self) -> None:
        now_s = time.monotonic()
        for broken, (due_s, repair) in list(self._repairs.items()):
            if now_s >= due_s:
                repair()
                del self._repairs[broken]
        self._replace_the_ended()
        self._next_s = self._next_s or now_s + self.every_s
        if now_s >= self._next_s:
            self._next_s = now_s + self.draw.expovariate(1 / self.every_s)
            self._strike()

    def put_right(self) -> None:
        """Repair all that is broken now; no more disasters."""
        for _, repair in self._repairs.values():
            repair()
        self._repairs.clear()
        self.stage.replace_the_ended()

    def _replace_the_ended(self) -> None:
        """Celery gives up now and then when its broker goes while it starts; a supervisor starts it again."""
        for container in self.stage.celery:
            if container.status != "running" and id(container) not in self._repairs:
                container.launch()
                self.counts["ended by itself"] += 1

    def _strike(self) -> None:
        ways: dict[Callable[[], None], int] = {
            self._kill_worker: 6, self._pause_worker: 5, self._terminate_sessions: 6, self._kill_broker: 2,
            self._empty_redis: 2, self._kill_redis: 1, self._restart_database: 2, self._kill_beat: 1,
        }  # fmt: skip
        (way,) = self.draw.choices(list(ways), list(ways.values()))
        way()

    def _breaks(self, broken: Any, name: str, repair: Callable[[], object], *, for_s: float) -> bool:
        """Note a disaster and when it ends; False if that is broken already."""
        if id(broken) in self._repairs:
            return False
        self._repairs[id(broken)] = (time.monotonic() + self.draw.uniform(0, for_s), repair)
        self.counts[name] += 1
        return True

    def _kill_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        if self._breaks(worker, "workers killed", worker.launch, for_s=2):
            worker.kill(signal.SIGKILL)

    def _pause_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        resume = partial(send_to_all, worker, signal.SIGCONT)
        if self._breaks(worker, "workers paused", resume, for_s=self.pause_s):
            send_to_all(worker, signal.SIGSTOP)

    def _terminate_sessions(self) -> None:
        """Half of all sessions, writers' and workers' alike."""
        self.counts["sessions terminated"] += 1
        try:
            with psycopg.connect(self.stage.postgresql.url, autocommit=True, connect_timeout=2) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"
                )
        except psycopg.Error:
            return  # it is away just now

    def _kill_beat(self) -> None:
        if self._breaks(self.stage.beat, "beat killed", self.stage.beat.launch, for_s=2):
            self.stage.beat.kill(signal.SIGKILL)

    def _kill_broker(self) -> None:
        if self._breaks(self.stage.broker, "broker killed", self.stage.broker.start, for_s=4):
            self.stage.broker.stop()

    def _kill_redis(self) -> None:
        if self._breaks(self.stage.redis, "Redis killed", self.stage.redis.start, for_s=3):
            self.stage.redis.stop()

    def _empty_redis(self) -> None:
        if self._breaks(self.stage.redis, "Redis emptied", lambda: None, for_s=0):
            with redis.Redis.from_url(self.stage.redis.url) as client:
                client.flushall()

    def _restart_database(self) -> None:
        sig, how = self.draw.choice([(signal.SIGINT, "restarted"), (signal.SIGQUIT, "crashed")])
        if self._breaks(self.stage.postgresql, f"database {how}", self.stage.postgresql.start, for_s=2):
            self.stage.postgresql.stop(sig)
