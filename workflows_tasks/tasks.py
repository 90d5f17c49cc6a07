"""What Celery runs. Thin: the work is in ``projection``, ``tick`` and ``comparison``.

Arguments are ints and bools, so any serializer that a host accepts will do. No task waits for another, and none sleeps.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from workflows_tasks import tick as ticking
from workflows_tasks.capture import nudge
from workflows_tasks.comparison import audit as auditing
from workflows_tasks.errors import WrongShards
from workflows_tasks.projection import flush as flushing
from workflows_tasks.queues import Periodic


@shared_task(ignore_result=True, acks_late=True)
def flush(shard: int, nudge_failures: int = 0, *, gated: bool = False) -> None:
    """Write what waits in one shard, and send the next message. One too many finds nothing, or the shard busy.

    Args:
        nudge_failures: failures of the process that sent it, to be counted.
        gated: see ``nudge.follow``.
    """
    try:
        done = flushing.flush(shard, nudge_failures=nudge_failures)
    except (*flushing.DB_ERRORS, WrongShards):
        return  # told in one line, and shown by health; the tick sends the next message
    if done.is_busy and not gated:
        return  # whoever holds the shard goes on until it finds nothing
    nudge.follow(shard, changes=done.changes, more=done.more, gated=gated)
    if not done.changes and flushing.has_changes(shard):  # committed between the last look and the marker's end
        nudge.nudge(shard)


@shared_task(base=Periodic, ignore_result=True)
def tick() -> None:
    """On beat: changes that no flush is due for, and whether everything is still captured."""
    ticking.tick()


@shared_task(base=Periodic, ignore_result=True)
def audit() -> Any:
    """On beat: the next step of comparing every key with the runs."""
    auditing.step()
