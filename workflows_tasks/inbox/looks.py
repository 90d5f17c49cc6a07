"""What is in the inbox, for whoever asks. Nothing here changes anything."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from workflows_tasks import conf
from workflows_tasks.inbox import keys
from workflows_tasks.inbox.connection import as_bytes, client, errors, now_ms, text, time_of


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard as ``status`` and the metrics show it. Ages are in seconds, None where there is nothing to age."""

    shard: int
    pending: int
    oldest_pending_s: float | None
    scheduled: bool
    claims: int
    oldest_claim_s: float | None
    aside: int
    last_flush_s: float | None
    """Seconds since a flush was acknowledged."""
    stats: Mapping[str, float]

    @property
    def gauges(self) -> dict[str, float]:
        """By the names of ``events.GAUGES``; ages are 0 where nothing waits."""
        return {
            "pending": self.pending,
            "oldest_pending_seconds": self.oldest_pending_s or 0.0,
            "claims": self.claims,
            "oldest_claim_seconds": self.oldest_claim_s or 0.0,
            "aside": self.aside,
        }


def status() -> list[ShardStatus]:
    """Every shard, in one round trip."""
    shards = range(conf.settings().shards)
    with errors():
        pipeline = client().pipeline(transaction=False)
        for shard in shards:
            pipeline.execute_command(*time_of(shard))
            pending, scheduled, claims, aside, stats = keys.of_shard(
                shard, "pending", "scheduled", "claims", "aside", "stats"
            )
            pipeline.zcard(pending)
            pipeline.zrange(pending, 0, 0, withscores=True)
            pipeline.exists(scheduled)
            pipeline.zcard(claims)
            pipeline.zrange(claims, 0, 0, withscores=True)
            pipeline.hlen(aside)
            pipeline.hgetall(stats)
        found = iter(pipeline.execute())
    return [_shard_status(shard, *(next(found) for _ in range(8))) for shard in shards]


def _shard_status(
    shard: int,
    now: Any,
    pending: int,
    oldest: Any,
    scheduled: int,
    claims: int,
    claimed: Any,
    aside: int,
    stats: Any,
) -> ShardStatus:
    def age_s(since_ms: float | None) -> float | None:
        return None if since_ms is None else max((now_ms(now) - since_ms) / 1000, 0.0)

    numbers = {text(name): _number(value) for name, value in stats.items()}
    return ShardStatus(
        shard=shard,
        pending=pending,
        oldest_pending_s=age_s(float(oldest[0][1]) if oldest else None),
        scheduled=bool(scheduled),
        claims=claims,
        oldest_claim_s=age_s(float(claimed[0][1]) if claimed else None),
        aside=aside,
        last_flush_s=age_s(numbers.pop("last_flush_ms", None)),
        stats=numbers,
    )


def _number(value: str | bytes) -> float:
    """A counter. What is no number was not written by us, and counts nothing."""
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def has_pending(shard: int) -> bool:
    with errors():
        return bool(client().exists(*keys.of_shard(shard, "pending")))


def aside(shard: int) -> dict[str, dict[str, Any]]:
    """What was set aside: run id -> ``{"why": ..., "since_ms": ...}``."""
    with errors():
        found = client().hgetall(*keys.of_shard(shard, "aside"))
        return {text(run): _reason(text(why)) for run, why in found.items()}


def _reason(text: str) -> dict[str, Any]:
    """What ``acknowledge`` wrote, or what somebody else did: it is shown, whatever it is."""
    try:
        found = json.loads(text)
        return {"why": str(found["why"]), "since_ms": float(found["since_ms"])}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"why": text, "since_ms": 0.0}


ASKED: Final = 10_000
"""Ids that one command asks about: Redis answers nobody else meanwhile."""


def where_is(runs: Iterable[str]) -> dict[str, str]:
    """Which of these runs are still to be written, in whatever shard: run id -> ``pending`` or ``claimed``."""
    remaining = iter(runs)
    found: dict[str, str] = {}
    with errors():
        while some := list(islice(remaining, ASKED)):
            # An id moves from pending into a claim and, if that fails, back: in this order neither is missed.
            first = _scores(_pending_keys(), some)
            claimed = _scores(_claim_keys(), some, "claimed")
            found |= _scores(_pending_keys(), some) | claimed | first
    return found


def scopes_wait() -> bool:
    """True if a scope is still to be resolved: then nobody can say yet which runs wait."""
    with errors():
        # In the same order; claims are listed when pending was looked at.
        names = chain.from_iterable(listed() for listed in (_pending_keys, _claim_keys, _pending_keys))
        return any(next(client().zscan_iter(as_bytes(key), match="\0*", count=ASKED), None) for key in names)


def _pending_keys() -> list[str]:
    return [keys.of_shard(shard, "pending")[0] for shard in range(conf.settings().shards)]


def _claim_keys() -> list[str]:
    shards = range(conf.settings().shards)
    pipeline = client().pipeline(transaction=False)
    for shard in shards:
        pipeline.zrange(keys.of_shard(shard, "claims")[0], 0, -1)
    return [
        keys.of_claim(shard, text(token))
        for shard, tokens in zip(shards, pipeline.execute(), strict=True)
        for token in tokens
    ]


def _scores(keys: Sequence[str], runs: Sequence[str], place: str = "pending") -> dict[str, str]:
    pipeline = client().pipeline(transaction=False)
    for key in keys:
        pipeline.zmscore(as_bytes(key), list(map(as_bytes, runs)))
    found: dict[str, str] = {}
    for scores in pipeline.execute():
        found |= {run: place for run, score in zip(runs, scores, strict=True) if score is not None}
    return found


def eviction_policy(*, timeout_s: float) -> str | None:
    """The server's ``maxmemory-policy``; None where it does not say. INFO, since managed servers forbid CONFIG."""
    with errors():
        info = client(timeout_s).info("memory")
    policy = info.get("maxmemory_policy")
    return None if policy is None else str(policy)
