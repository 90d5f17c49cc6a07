"""The audit: every key of the table compared with the runs, a few parts at a time, by Celery beat.

It should never find drift. Drift is an alarm, and is repaired. History that is not filled is left to a backfill.
"""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from django.db.models.functions import Now

from workflows_tasks import conf
from workflows_tasks.capture.record import installation, only_row
from workflows_tasks.comparison import verify
from workflows_tasks.comparison.compare import DRIFT
from workflows_tasks.projection.ranges import Range

FINDINGS_KEPT: Final = 20


def step() -> int:
    """Compare as many parts as a round within ``AUDIT_PERIOD_S`` needs; returns how many runs it logged for repair.

    The position is stored before a part is compared. So if a part kills its step, the next step notes that, and goes on
    after it. Otherwise the round would never get past it.
    """
    row = installation()
    findings = [] if row.audit_after is None else list(row.audit_findings)  # else a new round
    if row.audit_part:
        findings.insert(0, f"{row.audit_part}: its step did not end")
    logged, name = 0, ""

    def begin(part: str, last: str | None) -> None:
        nonlocal name
        name = part
        _store(audit_after=last, audit_part=part, audit_findings=findings)

    for number, part in enumerate(verify.parts(Range(after=row.audit_after), begin), start=1):
        logged += verify.repair(part.differences)
        drift = sum(each.state == DRIFT for each in part.differences)
        if part.error or drift:
            finding = part.error or f"{name}: {drift:,} row{'s' * (drift > 1)} of drift, repaired"
            findings = [finding, *findings][:FINDINGS_KEPT]
        _store(audited_at=Now(), audit_part="", audit_findings=findings)
        if number >= _parts_a_step():
            break
    return logged


def forget_findings() -> None:
    """Forget what the round found so far: everything was compared by hand meanwhile."""
    _store(audit_findings=[])


def _store(**values: Any) -> None:
    only_row().update(**values)


def _parts_a_step() -> int:
    settings = conf.settings()
    steps = settings.audit_period_s / settings.audit_step_s
    return ceil(verify.estimated_runs() / settings.audit_chunk / steps) or 1
