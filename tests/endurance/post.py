"""What can happen to announcements on their way: lost, late, twice, claimed by somebody who is gone."""

from __future__ import annotations

from collections import Counter
from typing import cast

import redis
from celery import Celery

from tests import broker
from tests.endurance.world import SHARDS
from workflows_tasks import conf, dispatch, flush


class Post:
    """The inbox, seen by whoever tampers with it."""

    def __init__(self, client: redis.Redis, app: Celery) -> None:
        self._client = client
        self._app = app
        self._held: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._messages: set[int] = set()
        self.lose_all()
        self._arrived()
        self._messages.clear()

    def waiting(self) -> list[tuple[str, int]]:
        """Every id that waits, with its shard, in a fixed order."""
        return [(text, shard) for shard in range(SHARDS) for text in sorted(self._ids(shard))]

    def fullest(self) -> int:
        """The shard in which most waits."""
        counts = Counter(shard for _, shard in self.waiting())
        return max(range(SHARDS), key=lambda shard: counts[shard])

    def lose(self, number: int) -> bool:
        """Take one id out of the inbox, as if it had never come; False if none waits."""
        waiting = self.waiting()
        if not waiting:
            return False
        text, shard = waiting[number % len(waiting)]
        self._client.zrem(_key(shard, "pending"), text)
        return True

    def lose_all(self) -> bool:
        """Redis is empty: what waits, what is claimed, the markers. True, as something may have been lost."""
        for key in self._client.scan_iter(f"{{{conf.settings().key_prefix}:*"):
            self._client.unlink(key)
        return True

    def hold_back(self, number: int) -> None:
        """Take one id out, to be delivered after others that were announced later."""
        waiting = self.waiting()
        if self.lose(number):
            text, shard = waiting[number % len(waiting)]
            self._held[text] = shard

    def bring(self) -> None:
        """Deliver what was held back."""
        dispatch.deliver(self._held)
        self._held = {}

    def repeat(self) -> None:
        """Deliver everything that was ever seen waiting once more."""
        dispatch.deliver(self._seen)

    def rescue(self) -> None:
        """Time passes: the leases of all claims end, and the rescuer comes by."""
        lease_ms = conf.settings().claim_lease_s * 1000 + 1
        for shard in range(SHARDS):
            for token in self._client.zrange(_key(shard, "claims"), 0, -1):
                self._client.zincrby(_key(shard, "claims"), -lease_ms, cast("bytes", token))
            flush.rescue(shard)

    def deliver(self, shard: int) -> int:
        """A worker takes a flush message, of this shard if there is one; returns the shard to flush.

        Asserts that each shard in which something waits has a message on its way.
        """
        self._seen.update(self.waiting())
        self._arrived()
        pending = {shard for _, shard in self.waiting()}
        assert pending <= self._messages, "something waits, and no message will come for it"
        shard = shard if shard in self._messages else 1 - shard
        self._messages.discard(shard)
        return shard

    def _arrived(self) -> None:
        """Take the messages out of the broker's queue."""
        queue = conf.settings().queue
        self._messages |= {message.payload[0][0] for message in broker.take_all(self._app, queue)}

    def _ids(self, shard: int) -> list[str]:
        return [cast("bytes", text).decode() for text in self._client.zrange(_key(shard, "pending"), 0, -1)]


def _key(shard: int, name: str) -> str:
    return f"{{{conf.settings().key_prefix}:{shard}}}:{name}"
