"""Is the pipeline well? For the health checks of containers and for whoever wants one word before looking closer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, InterfaceError

from workflows_tasks import conf, inbox
from workflows_tasks.errors import InboxUnavailable
from workflows_tasks.host import host
from workflows_tasks.models import Bookmark


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is well, and what was seen."""

    part: str
    well: bool
    seen: str

    def as_json(self) -> dict[str, Any]:
        return {"part": self.part, "well": self.well, "seen": self.seen}


def oldest_allowed_s() -> float:
    """Seconds after which something that waits is late whatever happened to one message or one worker: lost messages
    and dead workers' claims have been found by then, twice over."""
    settings = conf.settings()
    return 2 * (settings.claim_lease_s + settings.rescue_period_s)


def look(oldest_s: float | None = None) -> Iterator[Finding]:
    """Ask the database and Redis, and whether the shards are being flushed.

    Args:
        oldest_s: seconds that an id may wait or be claimed; ``oldest_allowed_s()`` by default.
    """
    yield _database()
    shards: list[inbox.ShardStatus] = []
    try:
        shards = inbox.status()
    except InboxUnavailable as error:
        yield Finding("redis", well=False, seen=str(error))
        return
    yield Finding("redis", well=True, seen="answers")
    limit_s = oldest_allowed_s() if oldest_s is None else oldest_s
    yield _flushed("pending", shards, lambda shard: shard.oldest_pending_s, limit_s)
    yield _flushed("claims", shards, lambda shard: shard.oldest_claim_s, limit_s)


def _database() -> Finding:
    try:
        Bookmark.objects.using(host().database).exists()
    except (DatabaseError, InterfaceError) as error:
        return Finding("database", well=False, seen=f"{type(error).__name__}: {error}".strip())
    return Finding("database", well=True, seen="answers, and is migrated")


def _flushed(
    part: str, shards: list[inbox.ShardStatus], age_s: Callable[[inbox.ShardStatus], float | None], limit_s: float
) -> Finding:
    oldest = max(((age_s(shard) or 0.0, shard.shard) for shard in shards), default=(0.0, 0))
    seen = f"the oldest is {oldest[0]:,.1f} s old, in shard {oldest[1]}; {limit_s:g} s are allowed"
    return Finding(part, well=oldest[0] <= limit_s, seen=seen if oldest[0] else "none")
