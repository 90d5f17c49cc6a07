"""What the broker and its workers say about the live queue. They are asked only if something is late."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from celery import current_app
from celery.signals import worker_ready

from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.monitoring import telemetry
from workflows_tasks.monitoring.status import age, counted

BROKER_S: Final = 1.0
"""Seconds to wait for each answer: of the broker, and of the workers."""

SLOW: Final = "replaces its process after each task, which takes seconds; start it with --max-tasks-per-child=1000"

WORKS_LONG_S: Final = 2.0
"""Seconds that a process has worked on a task when it is named. A flush takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that consumes the live queue."""

    name: str
    is_slow: bool
    """It replaces its process after each task."""
    active: dict[str, float]
    """What its processes work on: task -> seconds, of the one that takes longest."""
    is_full: bool
    """All its processes are at work."""
    reserved: int
    """Messages that it has taken from the queue, and has not begun."""

    @property
    def is_busy(self) -> bool:
        """All its processes are at work, and have been for long."""
        return self.is_full and max(self.active.values(), default=0.0) > WORKS_LONG_S

    def __str__(self) -> str:
        tasks = [f"{name} for {age(took_s)}" for name, took_s in self.active.items() if took_s > WORKS_LONG_S]
        return f"{self.name} works on {', '.join(tasks)}"


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """The queue's messages that no worker has taken, and its workers."""

    messages: int
    workers: list[Worker]

    @property
    def slow(self) -> list[Worker]:
        """Workers that replace their process after each task."""
        return [worker for worker in self.workers if worker.is_slow]

    @property
    def is_busy(self) -> bool:
        """No worker has a process for the next message."""
        return bool(self.workers) and all(worker.is_busy for worker in self.workers)

    def __str__(self) -> str:
        waiting = self.messages + sum(worker.reserved for worker in self.workers)
        return f"{counted(waiting, 'message')} there"


@worker_ready.connect
def warn_of_flags(sender: Any, **_: Any) -> None:
    """A worker tells as it starts: later the queue may be busy only now and then."""
    worker = sender.controller
    is_live = not conf.problems() and conf.settings().queue in sender.app.amqp.queues.consume_from
    if is_live and worker.max_tasks_per_child == 1 and "prefork" in worker.pool_cls.__module__:
        telemetry.worker_is_slow(worker.hostname, SLOW)


def ask() -> LiveQueue:
    """Ask the broker and the workers, each once.

    Raises:
        Exception: whatever a transport raises.
    """
    name, app = conf.settings().queue, current_app._get_current_object()  # type: ignore[attr-defined]
    url = app.connection_for_write().as_uri(include_password=True)
    with nudge.bounded(app, url, BROKER_S).clone() as connection:
        asked = {"connection": connection, "timeout": BROKER_S}
        consumed = app.control.inspect(**asked).active_queues() or {}
        names = [worker for worker, queues in consumed.items() if name in {queue["name"] for queue in queues}]
        workers = _workers(names, app.control.inspect(names, limit=len(names), **asked)) if names else []
        try:
            channel: Any = connection.default_channel
            return LiveQueue(channel.queue_declare(queue=name, passive=True).message_count, workers)
        except connection.channel_errors:  # there is no such queue, or in Redis it is empty
            return LiveQueue(0, workers)


def _workers(names: list[str], inspect: Any) -> list[Worker]:
    """Workers by name. One that does not answer every question in time is a worker all the same."""
    stats, active, reserved = inspect.stats() or {}, inspect.active() or {}, inspect.reserved() or {}
    pools = {name: answer["pool"] for name, answer in stats.items()}
    return [_worker(name, pools.get(name, {}), active.get(name, []), len(reserved.get(name, []))) for name in names]


def _worker(name: str, pool: dict[str, Any], active: list[dict[str, Any]], reserved: int) -> Worker:
    took_s: dict[str, float] = {}
    for task in active:
        began = task.get("time_start") or time.time()
        took_s[task["name"]] = max(took_s.get(task["name"], 0.0), time.time() - began)
    is_slow, is_full = pool.get("max-tasks-per-child") == 1, len(active) >= (pool.get("max-concurrency") or 1)
    return Worker(name, is_slow, took_s, is_full, reserved)
