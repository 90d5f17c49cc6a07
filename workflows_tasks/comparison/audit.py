"""The audit: every key of the table compared with the runs, a few parts at a time, by Celery beat.

It should never find anything. What it finds is an alarm, and is repaired.
"""

from __future__ import annotations

from math import ceil

from django.db.models.functions import Now

from workflows_tasks import conf
from workflows_tasks.capture.installation import installation
from workflows_tasks.comparison import verify
from workflows_tasks.host import host
from workflows_tasks.models import Installation
from workflows_tasks.projection.sql import Range

FAILURES_KEPT = 20


def step() -> int:
    """Compare as many parts as it takes to be round within the period; returns how many runs were logged for repair.

    Where it goes on is stored after each part, so a part that kills its worker is passed over by the next step.
    """
    row = installation()
    if row.audit_after is None:
        row.audit_failures = []  # a new round
    logged = 0
    for number, part in enumerate(verify.parts(Range(after=row.audit_after)), start=1):
        logged += verify.repair(part.differences)
        failures = [part.error, *row.audit_failures][:FAILURES_KEPT] if part.error else row.audit_failures
        row.audit_failures = failures
        Installation.objects.using(host().database).filter(pk=row.pk).update(
            audit_after=part.last, audited_at=Now(), audit_failures=failures
        )
        if number >= _parts_a_step():
            break
    return logged


def _parts_a_step() -> int:
    settings = conf.settings()
    steps = settings.audit_period_s / settings.audit_step_s
    return ceil(verify.estimated_runs() / settings.audit_chunk / steps) or 1
