"""Where each thing is in Redis: the shard of a workspace, and the names of a shard's keys."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from workflows_tasks import conf


def shard_of(key: object) -> int:
    """The shard of a workspace, by its key as text; ``projection`` computes the same in SQL."""
    return _number(str(key)) % conf.settings().shards


@lru_cache(maxsize=10_000)
def _number(key: str) -> int:
    # Cached, since the same few workspaces are saved in again and again, and OpenSSL's set-up takes 10 µs of a save.
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def of_shard(shard: int, *names: str) -> list[str]:
    tag = f"{{{conf.settings().key_prefix}:{shard}}}"
    return [f"{tag}:{name}" for name in names]


def of_claim(shard: int, token: str) -> str:
    return of_shard(shard, f"claim:{token}")[0]
