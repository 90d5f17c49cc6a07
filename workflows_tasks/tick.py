"""The tick: send a flush where changes wait and none is to come, watch capture, begin a rescan that is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from workflows_tasks import conf
from workflows_tasks.capture import catalogue, nudge, record, watch
from workflows_tasks.host import host
from workflows_tasks.models import Installation, Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog, changes, slices

LATE_WINDOWS: Final = 1.0
"""Windows past its due time after which a flush message counts as lost."""


def tick() -> list[int]:
    """Look once; returns the shards that a flush message was sent for.

    Raises:
        WrongShards: this process and the database have different numbers of shards. The process would consider the
            triggers' functions outdated, and move changes to the wrong shards.
    """
    row = record.installation()
    record.only_row().update(ticked_at=Now())  # first, to show that beat runs even if the rest fails
    record.check_shards(row.shards)
    _watch(row)
    _rescan_if_due(row)
    changes.deal_again()
    return _send_missing()


def _watch(row: Installation) -> None:
    """Log when the problems of capture change. After one is over, request a rescan."""
    if record.fingerprint_changed(row):
        telemetry.settings_changed()
    problems = [str(problem) for problem in watch.problems()]
    if problems == row.problems:
        return
    if problems:
        telemetry.capture_problems(problems)
    else:
        telemetry.capture_recovered()
    if set(row.problems).difference(problems):
        record.request_rescan("something was wrong with capture, and is not any more")
    record.only_row().update(problems=problems)


def _rescan_if_due(row: Installation) -> None:
    """Log every run as changed, once nobody writes with the old functions: no change names what these missed."""
    if row.rescan_waits_for is None or catalogue.writers().intersection(row.rescan_waits_for):
        return
    requested = record.only_row().filter(rescan_waits_for=row.rescan_waits_for)
    with transaction.atomic(using=host().database):
        if requested.update(rescan_waits_for=None, rescan_reason=""):
            changes.log_everything()
            telemetry.rescan_begun(row.rescan_reason)


def _send_missing() -> list[int]:
    """Send a flush message for each shard with pending changes and no flush to come. An overdue one counts as lost."""
    waiting = backlog.shards_pending()
    if not waiting:
        return []
    lost_before = Now() - timedelta(seconds=LATE_WINDOWS * conf.settings().flush_window_s)
    shards = Shard.objects.using(host().database).filter(number__in=waiting)
    at_work = Q(flushed_at__gt=lost_before)  # a long flush, in slices
    has_flush_to_come = shards.exclude(due_at=None).filter(Q(due_at__gt=lost_before) | at_work)
    coming = set(has_flush_to_come.values_list("number", flat=True))
    overdue = shards.filter(due_at__lte=lost_before, failing_since=None).exclude(at_work)
    lost = list(overdue.values_list("number", flat=True))
    if lost:
        telemetry.messages_lost(lost)
    for shard in lost:
        slices.count(shard, lost_messages=1)
    return [shard for shard in waiting if shard not in coming and nudge.send(shard)]
