"""What Celery runs. Thin: the work is in ``worker``, the orchestration in ``control``.

Arguments are ints, so any serializer a host accepts will do. No task keeps anything in its process. A message says no
more than "claim and work": one that is lost is sent again, and one that comes three times finds nothing to claim.
"""

from __future__ import annotations

from celery import shared_task

from backfill import control, worker
from workflows_tasks import conf
from workflows_tasks.queues import Periodic


@shared_task(base=Periodic, ignore_result=True)
def tick() -> None:
    """On beat: look after the open backfill, and ask for as many workers as may work on it."""
    backfill_id, messages = control.tick()
    for _ in range(messages):
        ask(backfill_id)


@shared_task(ignore_result=True)
def work(backfill_id: int) -> None:
    """Claim chunks of a backfill and work on them for a while; ask for another worker if there is more to do then."""
    if worker.work(backfill_id):
        ask(backfill_id)


def ask(backfill_id: int) -> None:
    """Send a ``work`` message. It expires when the next tick would send another in its place."""
    settings = conf.settings()
    limit_s = round(settings.backfill_slice_s + settings.backfill_plan_timeout_s)
    work.apply_async(
        args=(backfill_id,),
        queue=settings.backfill_queue,
        expires=settings.backfill_tick_s,
        time_limit=limit_s,
        soft_time_limit=limit_s,  # or the host's own would hold, which may be shorter than planning takes
    )
