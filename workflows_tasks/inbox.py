"""The inbox: the ids of runs that changed and are not flushed yet. The only module that talks to Redis.

Keys, each shard's under one hash tag so that its scripts work on a cluster (``{prefix:shard}`` is the tag)::

    {..}:pending      zset    run id -> ms at which it was first announced
    {..}:scheduled    string  a flush message is under way; expires, so that a lost message cannot silence the shard
    {..}:claims       zset    claim token -> ms at which it was claimed
    {..}:claim:TOKEN  zset    like pending: taken by one flush, not acknowledged yet
    {..}:aside        hash    run id -> JSON: why a flush could not write it, and since when
    {..}:stats        hash    counters, among them the commit-to-visible histogram

All times are the server's, so the clocks of web and worker machines do not matter.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from workflows_tasks import conf
from workflows_tasks.errors import InboxUnavailable

WORKER_TIMEOUT_S = 5.0
"""Workers and commands wait this long for Redis: they move whole claims, and nobody's request waits on them."""


def shard_of(key: object) -> int:
    """The shard of a workspace, by its key as text; ``projection`` computes the same in SQL."""
    digest = hashlib.sha256(str(key).encode()).digest()
    return int.from_bytes(digest[:4], "big") % conf.settings().shards


UNLIMITED = 2**53
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


def add(
    runs: Mapping[str, int], *, patient: bool = False, undelivered: int = 0, mark: bool = True
) -> tuple[list[int], int]:
    """Add run ids, each with its shard; one round trip however many.

    Args:
        runs: run id -> shard.
        patient: for a worker, which waits longer than a save may and is not refused: what it hands on was let in once.
        undelivered: announcements that failed in this process before, to be counted now that Redis answers.
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
    with _errors():
        # A transaction that saved thousands of runs may wait a little longer.
        timeout_s = WORKER_TIMEOUT_S if patient else settings.save_timeout_s * (1 + len(runs) // 1000)
        limit = UNLIMITED if patient else settings.inbox_limit
        pipeline = _client(timeout_s).pipeline(transaction=False)
        for position, (shard, ids) in enumerate(by_shard.items()):
            counted = undelivered if position == 0 else 0
            keys = _keys(shard, "pending", "scheduled", "stats")
            pipeline.execute_command("EVAL", _script("add"), 3, *keys, limit, marker_ms, counted, *map(_bytes, ids))
        answers = pipeline.execute()
    marked = [shard for shard, (taken, _) in zip(by_shard, answers, strict=True) if taken]
    return marked, sum(dropped for _, dropped in answers)


def mark(shard: int) -> bool:
    """Take a shard's flush marker; True if it was free."""
    with _errors():
        marker_ms = round(conf.settings().marker_s * 1000)
        return bool(_client(WORKER_TIMEOUT_S).set(*_keys(shard, "scheduled"), "1", nx=True, px=marker_ms))


def unmark(shards: Iterable[int]) -> None:
    """Give markers back: their flush messages could not be sent."""
    with _errors():
        pipeline = _client(conf.settings().save_timeout_s).pipeline(transaction=False)
        for shard in shards:
            pipeline.delete(*_keys(shard, "scheduled"))
        pipeline.execute()


def claim(shard: int) -> Claim | None:
    """Take all that is pending; None if nothing is."""
    token = uuid.uuid4().hex
    keys = [*_keys(shard, "pending", "scheduled", "claims"), _claim_key(shard, token)]
    now_ms, *flat = _run("claim", keys, token)
    if not flat:
        return None
    announced = dict(zip(map(_text, flat[::2]), map(float, flat[1::2]), strict=True))
    return Claim(shard=shard, token=token, announced_ms=announced, claimed_ms=float(now_ms))


def extend(claim: Claim, ids: Iterable[str]) -> bool:
    """Add ids to a claim before rows are committed that name them, so that a crash in between cannot forget them.

    Begins its lease anew: a transaction that the server ends sooner than that cannot outlive the claim.

    False if the claim is not ours any more: it was put back, and nothing may be committed for it.
    """
    keys = [_claim_key(claim.shard, claim.token), *_keys(claim.shard, "claims")]
    return bool(_run("extend", keys, claim.token, *ids))


def acknowledge(claim: Claim, ids: Iterable[str], *, stats: Mapping[str, float], aside: Mapping[str, str]) -> None:
    """Forget ids that are written; set aside those that cannot be. Only now are they out of the inbox's hands.

    Args:
        stats: increments of the shard's counters.
        aside: run id -> why it could not be written.
    """
    since = claim.now_ms
    set_aside = [x for run, why in aside.items() for x in (run, json.dumps({"why": why, "since_ms": since}))]
    counters = [x for pair in stats.items() for x in pair]
    keys = [_claim_key(claim.shard, claim.token), *_keys(claim.shard, "claims", "aside", "stats")]
    _run("acknowledge", keys, claim.token, len(aside), *set_aside, len(stats), *counters, *ids)


def release(shard: int, tokens: Iterable[str]) -> int:
    """Put claims back into pending; returns how many were still there to put back."""
    tokens = list(tokens)
    keys = [*_keys(shard, "pending", "claims", "stats"), *(_claim_key(shard, token) for token in tokens)]
    return int(_run("release", keys, *tokens)) if tokens else 0


def expired_claims(shard: int) -> list[str]:
    """Tokens of claims older than their lease: whoever took them is gone, or will find its work done."""
    with _errors():
        client = _client(WORKER_TIMEOUT_S)
        limit = _now_ms(client) - conf.settings().claim_lease_s * 1000
        return [_text(token) for token in client.zrangebyscore(*_keys(shard, "claims"), "-inf", limit)]


def has_pending(shard: int) -> bool:
    with _errors():
        return bool(_client(WORKER_TIMEOUT_S).exists(*_keys(shard, "pending")))


def retry_aside(shard: int) -> int:
    """Move what was set aside back to pending; returns how many run ids."""
    return int(_run("retry_aside", _keys(shard, "aside", "pending")))


def aside(shard: int) -> dict[str, dict[str, Any]]:
    """What was set aside: run id -> ``{"why": ..., "since_ms": ...}``."""
    with _errors():
        found = _client(WORKER_TIMEOUT_S).hgetall(*_keys(shard, "aside"))
        return {_text(run): json.loads(why) for run, why in found.items()}


def where_is(runs: Iterable[str]) -> dict[str, str]:
    """Which of these runs are still to be written, in whatever shard: run id -> ``pending`` or ``claimed``."""
    runs = list(runs)
    if not runs:
        return {}
    with _errors():
        # An id moves from pending into a claim and, if that fails, back: pending, claims, pending misses neither.
        first = _scores(_pending_keys(), runs)
        return _scores(_pending_keys(), runs) | _scores(_claim_keys(), runs, "claimed") | first


def scopes_wait() -> bool:
    """True if a scope is still to be resolved: then nobody can say yet which runs wait."""
    with _errors():
        client = _client(WORKER_TIMEOUT_S)
        keys = [*_pending_keys(), *_claim_keys(), *_pending_keys()]
        return any(next(client.zscan_iter(key, match="\0*", count=10_000), None) for key in keys)


def _pending_keys() -> list[str]:
    return [_keys(shard, "pending")[0] for shard in range(conf.settings().shards)]


def _claim_keys() -> list[str]:
    shards = range(conf.settings().shards)
    pipeline = _client(WORKER_TIMEOUT_S).pipeline(transaction=False)
    for shard in shards:
        pipeline.zrange(_keys(shard, "claims")[0], 0, -1)
    return [
        _claim_key(shard, _text(token))
        for shard, tokens in zip(shards, pipeline.execute(), strict=True)
        for token in tokens
    ]


def _scores(keys: Sequence[str], runs: Sequence[str], place: str = "pending") -> dict[str, str]:
    pipeline = _client(WORKER_TIMEOUT_S).pipeline(transaction=False)
    for key in keys:
        pipeline.zmscore(key, list(map(_bytes, runs)))
    found: dict[str, str] = {}
    for scores in pipeline.execute():
        found |= {run: place for run, score in zip(runs, scores, strict=True) if score is not None}
    return found


def count(counter: str, increment: int) -> None:
    """Add to a counter that belongs to no shard; it is kept with the first."""
    with _errors():
        _client(WORKER_TIMEOUT_S).hincrby(*_keys(0, "stats"), counter, increment)


def status() -> list[ShardStatus]:
    """Every shard, in one round trip."""
    shards = range(conf.settings().shards)
    with _errors():
        client = _client(WORKER_TIMEOUT_S)
        now_ms = _now_ms(client)
        pipeline = client.pipeline(transaction=False)
        for shard in shards:
            pending, scheduled, claims, aside, stats = _keys(shard, "pending", "scheduled", "claims", "aside", "stats")
            pipeline.zcard(pending)
            pipeline.zrange(pending, 0, 0, withscores=True)
            pipeline.exists(scheduled)
            pipeline.zcard(claims)
            pipeline.zrange(claims, 0, 0, withscores=True)
            pipeline.hlen(aside)
            pipeline.hgetall(stats)
        answers = iter(pipeline.execute())
    return [_shard_status(shard, now_ms, *(next(answers) for _ in range(7))) for shard in shards]


def _shard_status(
    shard: int,
    now_ms: float,
    pending: int,
    oldest: Any,
    scheduled: int,
    claims: int,
    claimed: Any,
    aside: int,
    stats: Any,
) -> ShardStatus:
    def age_s(since_ms: float | None) -> float | None:
        return None if since_ms is None else max((now_ms - since_ms) / 1000, 0.0)

    numbers = {_text(name): float(value) for name, value in stats.items()}
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


def eviction_policy(*, timeout_s: float) -> str | None:
    """The server's ``maxmemory-policy``; None where it does not say. INFO, since managed servers forbid CONFIG."""
    with _errors():
        info = _client(timeout_s).info("memory")
    policy = info.get("maxmemory_policy")
    return None if policy is None else str(policy)


def _keys(shard: int, *names: str) -> list[str]:
    tag = f"{{{conf.settings().key_prefix}:{shard}}}"
    return [f"{tag}:{name}" for name in names]


def _claim_key(shard: int, token: str) -> str:
    return _keys(shard, f"claim:{token}")[0]


@cache
def _script(name: str) -> str:
    return (files("workflows_tasks") / "scripts" / f"{name}.lua").read_text()


def _run(name: str, keys: list[str], *args: object) -> Any:
    with _errors():
        return _client(WORKER_TIMEOUT_S).execute_command("EVAL", _script(name), len(keys), *keys, *map(_bytes, args))


@cache
def _client(timeout_s: float) -> Any:
    """A client that gives up after ``timeout_s`` to connect and as long again for each answer. Safe across forks."""
    url = conf.settings().redis_url
    if "://" not in url:
        return import_string(url)(timeout_s=timeout_s)
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        # One attempt: the caller decides what a failure costs. redis-py's default would retry with backoff.
        retry=Retry(NoBackoff(), 0),
    )


def _now_ms(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) * 1000 + float(microseconds) / 1000


def _text(value: str | bytes) -> str:
    """Bytes that are no UTF-8 survive as surrogates: somebody put them there, and they must be acknowledged by name."""
    return value if isinstance(value, str) else value.decode(errors="surrogateescape")


def _bytes(value: object) -> object:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise InboxUnavailable(
            f"Redis did not take or give what was asked ({type(error).__name__}: {error}). "
            f"Check {conf.NAME}['REDIS_URL'] and the server."
        ) from error


def _forget(*, setting: str, **_: object) -> None:
    if setting == conf.NAME:
        _client.cache_clear()


setting_changed.connect(_forget, dispatch_uid="workflows_tasks.inbox")
