"""What Celery runs. Thin: the work is in ``flush``.

Arguments are ints, so any serializer a host accepts will do. No task keeps anything in its process.
"""

from __future__ import annotations

from celery import shared_task

from workflows_tasks import conf, repair
from workflows_tasks import flush as flushing


@shared_task(ignore_result=True, acks_late=True)
def flush(shard: int) -> None:
    """Write what is pending in one shard. Sent at most once per shard and window; a duplicate finds nothing to do."""
    flushing.flush(shard)


@shared_task(ignore_result=True)
def rescue() -> None:
    """On beat: flush messages that were lost and claims whose worker is gone."""
    for shard in range(conf.settings().shards):
        flushing.rescue(shard)


@shared_task(ignore_result=True)
def sweep() -> None:
    """On beat: changes whose announcement was lost."""
    repair.sweep()


@shared_task(ignore_result=True)
def audit() -> None:
    """On beat: the next step of comparing every key with the runs."""
    repair.audit()
