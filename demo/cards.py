"""The home page's cards, for the terminal and for the browser."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.utils import timezone
from django.utils.timesince import timesince

from demo.bots.models import PublishedRun
from workflows_tasks import recent_workflows


class Card(NamedTuple):
    """A workflow as the home page shows it."""

    title: str
    used_at: datetime
    run: int

    @property
    def ago(self) -> str:
        """How long ago, in one unit."""
        seconds = (timezone.now() - self.used_at).total_seconds()
        if seconds < 60:
            return "just now" if seconds < 5 else f"{seconds:.0f} s ago"
        return timesince(self.used_at, depth=1).replace("\xa0", " ") + " ago"


def cards(workspace: int, user: str | None = None, limit: int = 4, *, fresh: bool = False) -> list[Card]:
    """What the home page shows: one read of the table, and one of the workflows for their titles.

    Args:
        fresh: also what was written a moment ago and is not flushed yet.
    """
    read = recent_workflows(workspace, user, limit, fresh=True) if fresh else recent_workflows(workspace, user, limit)
    rows = list(read)
    workflows = PublishedRun.objects.in_bulk([row.published_run_id for row in rows])
    return [
        Card(workflows[row.published_run_id].title, row.last_used_at, row.last_run_id)
        for row in rows
        if row.published_run_id in workflows  # one that was deleted a moment ago is still named
    ]
