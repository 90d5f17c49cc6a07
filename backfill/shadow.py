"""Evidence for the switch: what the old query shows beside what the table says, for a sample of reads.

The page goes on showing the old answer. Differences are counted (``recent_workflows status``, Prometheus) and logged
with what to look at.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final

from django.db import DatabaseError, InterfaceError
from django.db.models import Model

from backfill import journal
from backfill.covered import coverage
from workflows_tasks import conf, inbox, recent_workflows
from workflows_tasks.announcements import unharmed
from workflows_tasks.breaker import Breaker
from workflows_tasks.errors import InboxUnavailable, RecentWorkflowsError
from workflows_tasks.host import host
from workflows_tasks.ids import BAD_TEXT, decode, encode

_breaker: Final = Breaker("shadow")


class Outcome(Enum):
    """What came of comparing one read."""

    SAME = "same"
    PENDING = "pending"
    """They differ, and one of the runs waits for a flush; a read a second later would tell."""
    UNCOVERED = "uncovered"
    """They differ, and the workspace's history is not filled yet."""
    DIFFERENT = "different"
    FAILED = "failed"
    """It could not be compared."""


def observe(
    runs: Iterable[Any], workspace: Any, user: Any = None, *, limit: int = 4, share: float = 0.01
) -> Outcome | None:
    """Compare the old answer with the table's. Never raises; costs nothing but for the sampled share of reads, and does
    not wait for a Redis that hangs.

    Args:
        runs: what the page shows: the latest run of each workflow, newest first, or their keys.
        workspace, user, limit: as for ``recent_workflows``.
        share: part of the reads to compare, from 0 to 1.

    Returns:
        What came of it; None if this read is not in the sample.
    """
    if random.random() >= share:  # noqa: S311  # a sample, no secret
        return None
    if _breaker.is_open:
        return Outcome.FAILED
    try:
        return _observed(runs, workspace, user, limit)
    except (RecentWorkflowsError, DatabaseError, InterfaceError, *BAD_TEXT) as error:
        journal.not_compared(error)
        return Outcome.FAILED


def _observed(runs: Iterable[Any], workspace: Any, user: Any, limit: int) -> Outcome:
    old = [_text(run) for run in runs][:limit]
    rows = recent_workflows(workspace, user, limit).values_list("last_run_id", flat=True)
    with unharmed(rows.db):
        new = [encode(run) for run in rows]
    _count_read()
    outcome = Outcome.SAME if old == new else _why(old, new, workspace)
    if outcome != Outcome.SAME:
        inbox.count(f"shadow_{outcome.value}", 1)
    if outcome == Outcome.DIFFERENT:
        journal.differs(workspace, user, old=old, new=new)
    return outcome


def _count_read() -> None:
    """The first that is asked of Redis: as impatiently as a save asks, and not again for a while if it fails."""
    settings = conf.settings()
    try:
        inbox.count("shadow_reads", 1, timeout_s=settings.save_timeout_s)
    except InboxUnavailable:
        _breaker.fail(settings.breaker_s)
        raise
    _breaker.succeed()


def _why(old: Sequence[str], new: Sequence[str], workspace: Any) -> Outcome:
    if inbox.where_is(set(old) ^ set(new) or old) or inbox.scopes_wait():
        return Outcome.PENDING
    with unharmed(host().database):
        return Outcome.DIFFERENT if coverage(workspace).is_filled else Outcome.UNCOVERED


def _text(run: Any) -> str:
    return encode(run.pk) if isinstance(run, Model) else encode(decode(str(run)))
