"""The home page's cards, for the terminal and for the browser."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.timesince import timesince

from workflows_tasks import recent_workflows


@dataclass(frozen=True, slots=True)
class Card:
    """A workflow as the home page shows it."""

    workflow: int
    title: str
    photo: str
    used_at: datetime
    run: int

    @property
    def initials(self) -> str:
        return "".join(word[0] for word in self.title.replace("-", " ").split()[:2]).upper()

    @property
    def hue(self) -> int:
        """An angle on the colour wheel, far from that of the workflow's neighbours."""
        return self.workflow * 137 % 360

    @property
    def ago(self) -> str:
        return ago(self.used_at)


def cards(workspace: int, user: str | None = None, limit: int = 4) -> list[Card]:
    """What the home page shows: one read of the table, joined with the workflows for their titles."""
    rows = recent_workflows(workspace, user, limit).select_related("published_run")
    return [
        Card(
            workflow=row.published_run_id,
            title=row.published_run.title,
            photo=row.published_run.photo_url,
            used_at=row.last_used_at,
            run=row.last_run_id,
        )
        for row in rows
    ]


def ago(moment: datetime) -> str:
    """How long ago, in one unit."""
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < 5:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return timesince(moment, depth=1).replace("\xa0", " ") + " ago"
