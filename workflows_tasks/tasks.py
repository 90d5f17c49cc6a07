"""What Celery runs. Thin: the work is in ``projection``, ``tick`` and ``comparison``.

Arguments are ints and bools, so any serializer that a host accepts will do. No task waits for another, and none sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import shared_task

from workflows_tasks import tick as ticking
from workflows_tasks.comparison import audit as auditing
from workflows_tasks.errors import WrongShards
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import chain
from workflows_tasks.projection.transactions import DB_ERRORS
from workflows_tasks.queues import Periodic


@shared_task(ignore_result=True, acks_late=True)
def flush(shard: int, nudge_failures: int = 0, *, due_us: int | None = None, gated: bool = False) -> None:
    """Flush one shard, and send the message of its next flush. An extra message does no harm: there is nothing to do
    for it, or another flush holds the shard.

    Args:
        nudge_failures, due_us, gated: see ``chain.run``.
    """
    with suppress(*DB_ERRORS, WrongShards):  # told in one line, and shown by health; the tick sends the next message
        chain.run(shard, due_us=due_us, gated=gated, nudge_failures=nudge_failures)


@shared_task(base=Periodic, ignore_result=True)
def tick() -> None:
    """On beat: changes that no flush is due for, and whether everything is still captured."""
    with _told("tick"):
        ticking.tick()


@shared_task(base=Periodic, ignore_result=True)
def audit() -> Any:
    """On beat: the next step of comparing every key with the runs."""
    with _told("audit"):
        auditing.step()


@contextmanager
def _told(task: str) -> Iterator[None]:
    """An error is told in one line: the next message from beat tries again."""
    try:
        yield
    except (*DB_ERRORS, WrongShards) as error:
        telemetry.periodic_failed(error, task=task)
