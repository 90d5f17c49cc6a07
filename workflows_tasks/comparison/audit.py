"""The audit: every key of the table compared with the runs, a few parts at a time, by Celery beat.

It should never find drift. Drift is an alarm, and is repaired. History that is not filled is left to a backfill.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from django.db.models.functions import Now

from workflows_tasks import conf
from workflows_tasks.capture.installation import installation
from workflows_tasks.comparison import verify
from workflows_tasks.host import host
from workflows_tasks.models import Installation
from workflows_tasks.projection.sql import Range

FAILURES_KEPT = 20


def step() -> int:
    """Compare as many parts as a round within ``AUDIT_PERIOD_S`` needs; returns how many runs it logged for repair.

    The position is stored before a part is compared. So if a part kills its step, the next step goes on after it, and
    the part stays noted as failed. Otherwise the round would never get past it.
    """
    row = installation()
    if row.audit_after is None:
        row.audit_failures = []  # a new round
    logged = 0

    def begin(name: str, last: str | None) -> None:
        _store(audit_after=last, audit_failures=[f"{name}: its step did not end", *row.audit_failures])

    for number, part in enumerate(verify.parts(Range(after=row.audit_after), begin), start=1):
        logged += verify.repair(part.differences)
        row.audit_failures = [*filter(None, [part.error]), *row.audit_failures][:FAILURES_KEPT]
        _store(audited_at=Now(), audit_failures=row.audit_failures)
        if number >= _parts_a_step():
            break
    return logged


def _store(**values: Any) -> None:
    Installation.objects.using(host().database).filter(pk=Installation.ONLY).update(**values)


def _parts_a_step() -> int:
    settings = conf.settings()
    steps = settings.audit_period_s / settings.audit_step_s
    return ceil(verify.estimated_runs() / settings.audit_chunk / steps) or 1
