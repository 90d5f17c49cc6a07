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
    """Compare as many parts as a round within ``AUDIT_PERIOD_S`` needs; returns how many runs it logged for repair.

    The place is stored after each part, so a step that is killed costs one part. A part that fails is noted and passed
    over.
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
