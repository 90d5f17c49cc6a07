"""What Celery runs.

A message says no more than "claim and work". If it is lost, the next tick sends another. If it comes three times,
nothing is left to claim. Arguments are ints, for any serializer.
"""

from __future__ import annotations

from celery import shared_task

from backfill import control, planner, worker
from workflows_tasks import conf
from workflows_tasks.queues import Periodic


@shared_task(base=Periodic, ignore_result=True)
def tick() -> None:
    """On beat: look after the oldest backfill that has not ended, and ask for workers."""
    backfill_id, messages = control.tick()
    for _ in range(messages):
        ask(backfill_id)


@shared_task(ignore_result=True)
def work(backfill_id: int) -> None:
    """Work on a backfill for a while. Ask for another worker if there is more to do then."""
    if worker.work(backfill_id):
        ask(backfill_id)


def ask(backfill_id: int) -> None:
    """Send a ``work`` message. It expires when the next tick would send another."""
    settings = conf.settings()
    limit_s = round(worker.SLICE_S + planner.TIMEOUT_S)
    work.apply_async(
        args=(backfill_id,),
        queue=settings.backfill_queue,
        expires=settings.tick_period_s,
        time_limit=limit_s,
        soft_time_limit=limit_s,  # the host's own may be shorter than planning takes
    )
