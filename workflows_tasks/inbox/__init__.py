"""The inbox: the ids of runs that changed and are not flushed yet. Only this package talks to Redis.

Keys, each shard's under one hash tag so that its scripts work on a cluster (``{prefix:shard}`` is the tag)::

    {..}:pending      zset    run id -> ms at which it was first announced
    {..}:scheduled    string  a flush message is under way; expires, so that a lost message cannot silence the shard
    {..}:claims       zset    claim token -> ms at which it was claimed
    {..}:claim:TOKEN  zset    like pending: taken by one flush, not acknowledged yet
    {..}:aside        hash    run id -> JSON: why a flush could not write it, and since when
    {..}:stats        hash    counters, among them the commit-to-visible histogram

All times are the server's, on a cluster those of the shard's node: the clocks of web and worker machines do not matter.
"""

from __future__ import annotations

from workflows_tasks.inbox.keys import shard_of
from workflows_tasks.inbox.looks import (
    ShardStatus,
    aside,
    eviction_policy,
    has_pending,
    scopes_wait,
    status,
    where_is,
)
from workflows_tasks.inbox.moves import (
    Claim,
    acknowledge,
    add,
    claim,
    count,
    expired_claims,
    extend,
    mark,
    release,
    retry_aside,
    unmark,
)

__all__ = [
    "Claim",
    "ShardStatus",
    "acknowledge",
    "add",
    "aside",
    "claim",
    "count",
    "eviction_policy",
    "expired_claims",
    "extend",
    "has_pending",
    "mark",
    "release",
    "retry_aside",
    "scopes_wait",
    "shard_of",
    "status",
    "unmark",
    "where_is",
]
