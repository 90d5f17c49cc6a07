"""How ids come into the inbox, into a flush's claim, and out of it. Each move is one script: nothing is in between."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import ceil
from typing import Any, Final

from redis.exceptions import RedisError

from workflows_tasks import conf
from workflows_tasks.inbox import keys
from workflows_tasks.inbox.connection import (
    WORKER_TIMEOUT_S,
    answers,
    as_bytes,
    client,
    errors,
    now_ms,
    run_script,
    script,
    text,
    time_of,
    unavailable,
)

PER_TIMEOUT: Final = 1_000
"""For each so many ids a save waits one timeout: a transaction may have saved thousands of runs."""

_NOTHING: Final[Mapping[str, int]] = {}

UNLIMITED: Final = 2**53
"""More ids than there can be, and still a whole number in Lua."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Ids that one flush has taken: theirs until acknowledged, released, or expired."""

    shard: int
    token: str
    announced_ms: Mapping[str, float]
    claimed_ms: float
    taken_at_s: float = field(default_factory=time.monotonic)

    @property
    def now_ms(self) -> float:
        """The server's clock, from its time at the claim: no second round trip, no second clock."""
        return self.claimed_ms + (time.monotonic() - self.taken_at_s) * 1000


def add(
    runs: Mapping[str, int], *, patient: bool = False, counts: Mapping[str, int] = _NOTHING, mark: bool = True
) -> tuple[list[int], int]:
    """Add run ids, each with its shard; one round trip however many.

    Args:
        runs: run id -> shard.
        patient: for a worker, which waits longer than a save may and is not refused: what it hands on was let in once.
        counts: what this process could not count before, by counter.
        mark: take the flush marker where it is free.

    Returns:
        The shards whose marker was taken, for which the caller must send a flush message; and the number of ids that
        were dropped because their shard is full.

    Raises:
        InboxUnavailable: Redis refused or did not answer in time; some ids may have been added.
    """
    settings = conf.settings()
    by_shard: dict[int, list[str]] = {}
    for run, shard in runs.items():
        by_shard.setdefault(shard, []).append(run)
    marker_ms = round(settings.marker_s * 1000) if mark else 0
    limit = UNLIMITED if patient else settings.inbox_limit
    timeout_s = WORKER_TIMEOUT_S if patient else settings.save_timeout_s * max(1, ceil(len(runs) / PER_TIMEOUT))
    commands = [
        ("EVAL", script("add"), 3, *keys.of_shard(shard, "pending", "scheduled", "stats"), limit, marker_ms, *each)
        for shard, *each in _counted_once(by_shard, counts)
    ]
    try:
        found = answers(client(timeout_s), commands)
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    marked = [shard for shard, (taken, _) in zip(by_shard, found, strict=True) if taken]
    return marked, sum(dropped for _, dropped in found)


def _counted_once(by_shard: Mapping[int, Sequence[str]], counts: Mapping[str, int]) -> Iterator[Sequence[Any]]:
    """Each shard, the counts (with the first of them), and its ids."""
    for shard, ids in by_shard.items():
        yield shard, len(counts), *chain.from_iterable(counts.items()), *map(as_bytes, ids)
        counts = _NOTHING


def mark(shard: int) -> bool:
    """Take a shard's flush marker; True if it was free."""
    with errors():
        marker_ms = round(conf.settings().marker_s * 1000)
        return bool(client().set(*keys.of_shard(shard, "scheduled"), "1", nx=True, px=marker_ms))


def unmark(shards: Iterable[int]) -> None:
    """Give markers back: their flush messages could not be sent."""
    with errors():
        pipeline = client(conf.settings().save_timeout_s).pipeline(transaction=False)
        for shard in shards:
            pipeline.delete(*keys.of_shard(shard, "scheduled"))
        pipeline.execute()


def claim(shard: int) -> Claim | None:
    """Take all that is pending; None if nothing is."""
    token = uuid.uuid4().hex
    names = [*keys.of_shard(shard, "pending", "scheduled", "claims"), keys.of_claim(shard, token)]
    now, *flat = run_script("claim", names, token)
    if not flat:
        return None
    announced = dict(zip(map(text, flat[::2]), map(float, flat[1::2]), strict=True))
    return Claim(shard=shard, token=token, announced_ms=announced, claimed_ms=float(now))


def extend(claim: Claim, ids: Iterable[str]) -> bool:
    """Add ids to a claim before rows are committed that name them, so that a crash in between cannot forget them.

    Begins its lease anew: a transaction that the server ends sooner than that cannot outlive the claim.

    False if the claim is not ours any more: it was put back, and nothing may be committed for it.
    """
    names = [keys.of_claim(claim.shard, claim.token), *keys.of_shard(claim.shard, "claims")]
    return bool(run_script("extend", names, claim.token, *ids))


def acknowledge(claim: Claim, ids: Iterable[str], *, stats: Mapping[str, float], aside: Mapping[str, str]) -> None:
    """Forget ids that are written; set aside those that cannot be. Only now are they out of the inbox's hands.

    Args:
        stats: increments of the shard's counters.
        aside: run id -> why it could not be written.
    """
    since = claim.now_ms
    set_aside = [x for run, why in aside.items() for x in (run, json.dumps({"why": why, "since_ms": since}))]
    counters = [x for pair in stats.items() for x in pair]
    names = [keys.of_claim(claim.shard, claim.token), *keys.of_shard(claim.shard, "claims", "aside", "stats")]
    run_script("acknowledge", names, claim.token, len(aside), *set_aside, len(stats), *counters, *ids)


def release(shard: int, tokens: Iterable[str]) -> int:
    """Put claims back into pending; returns how many were still there to put back."""
    tokens = list(tokens)
    names = [*keys.of_shard(shard, "pending", "claims", "stats"), *(keys.of_claim(shard, token) for token in tokens)]
    return int(run_script("release", names, *tokens)) if tokens else 0


def expired_claims(shard: int) -> list[str]:
    """Tokens of claims older than their lease: whoever took them is gone, or will find its work done."""
    with errors():
        server = client()
        expired_ms = now_ms(server.execute_command(*time_of(shard))) - conf.settings().claim_lease_s * 1000
        return [text(token) for token in server.zrangebyscore(*keys.of_shard(shard, "claims"), "-inf", expired_ms)]


def retry_aside(shard: int) -> int:
    """Move what was set aside back to pending; returns how many run ids."""
    return int(run_script("retry_aside", keys.of_shard(shard, "aside", "pending")))


def count(counter: str, increment: int, *, timeout_s: float = WORKER_TIMEOUT_S) -> None:
    """Add to a counter that belongs to no shard; it is kept with the first."""
    with errors():
        client(timeout_s).hincrby(*keys.of_shard(0, "stats"), counter, increment)
