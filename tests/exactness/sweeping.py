"""What the tests of sweep and audit share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection
from django.utils.timezone import make_naive

from tests.exactness.scene import Scene
from tests.hosts.adapter import moment
from tests.waiting import until
from workflows_tasks import inbox, repair
from workflows_tasks.models import Bookmark

PROMPT = {"FLUSH_WINDOW_S": 0.005, "SWEEP_OVERLAP_S": 0.02}
"""Settings of a sweep that looks at what happened a moment ago, and not much further back."""


def server_now() -> datetime:
    """The server's clock, also inside a transaction, as the host stores moments."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
    return at if moment(0).tzinfo else at.replace(tzinfo=None)


def use_now(scene: Scene, run: Any) -> Any:
    """The run is used now, and nobody announces it."""
    scene.host.set_used_at(run, server_now())
    return run


def sweep_until_found(count: int) -> None:
    """Sweep until so many lost runs are found in all: not before a flush that is under way would have written them."""
    found: list[int] = []
    until(lambda: found.append(repair.sweep()) or sum(found) >= count)  # type: ignore[func-returns-value]
    assert sum(found) == count


def sweep_for_a_while() -> None:
    """Sweep until the server's clock is well past what a sweep looks back."""
    start = server_now()
    until(lambda: repair.sweep() < 0 or (server_now() - start).total_seconds() > 5 * PROMPT["SWEEP_OVERLAP_S"])


def sweep_until_past(moment: datetime) -> None:
    """Sweep until the watermark is past a moment: not before what others had open on this server then has ended."""
    until(lambda: not repair.sweep() and watermark() > moment)


def watermark() -> datetime:
    """How far the sweep has come, as the host stores moments."""
    at = datetime.fromisoformat(Bookmark.objects.get(name=repair.RUNS).position["used_at"])
    return at if moment(0).tzinfo else make_naive(at)


def counted(counter: str) -> float:
    return sum(shard.stats.get(counter, 0) for shard in inbox.status())
