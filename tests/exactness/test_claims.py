"""A flush dies after its claim: what it had claimed is flushed again, by whoever comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.db import connection, transaction

from demo.servers import Valkey
from tests.conftest import Configure
from tests.exactness.scene import Scene, finish
from tests.exactness.stepping import Actor
from tests.oracle import stored
from tests.waiting import until
from workflows_tasks import announce, dispatch, inbox
from workflows_tasks.errors import InboxUnavailable, NothingCommits
from workflows_tasks.flush import flush, rescue
from workflows_tasks.ids import encode


def rescued(scene: Scene, configure: Configure) -> int:
    """Put expired claims back, once they are older than a lease of next to nothing."""
    configure(FLUSH_TIME_LIMIT_S=0.001, CLAIM_LEASE_S=0.002)
    count = until(lambda: rescue(scene.shard), within_s=3.0)
    configure(FLUSH_TIME_LIMIT_S=20.0, CLAIM_LEASE_S=30.0)
    return count


def test_a_claim_outlives_its_flush(scene: Scene, configure: Configure) -> None:
    """Acknowledged before it is written, a run would be forgotten here: neither pending nor claimed."""
    older, newest = scene.run(4), scene.run(5)
    scene.settle()
    newest.delete()
    late = scene.run(4.5)
    scene.flush("raised").kill()
    assert rescued(scene, configure) == 1
    scene.shows(late)
    late.delete()
    scene.shows(older)


def test_the_next_claim_does_not_overwrite_it(scene: Scene, configure: Configure) -> None:
    """Two flushes die one after the other. If both claims had the same key, the second would have destroyed the
    first: renaming onto a key that exists replaces it."""
    first = scene.run(1)
    scene.flush("raised").kill()
    second = scene.run(1, workspace=scene.earlier)
    scene.flush("raised").kill()
    assert sum(shard.claims for shard in inbox.status()) == 2
    assert rescued(scene, configure) == 2
    scene.shows(first, second)


def test_a_claim_that_lives_is_not_touched_by_the_next(scene: Scene) -> None:
    """The same with two flushes that live: the second's acknowledgement must not forget what the first has claimed."""
    first = scene.run(1)
    slow = scene.flush("raised")
    second = scene.run(1, workspace=scene.earlier)
    quick = scene.flush()
    assert quick.waits
    assert sum(shard.claims for shard in inbox.status()) == 2
    slow.finish()
    quick.finish()
    scene.shows(first, second)
    assert sum(shard.claims for shard in inbox.status()) == 0


def test_a_claim_that_expired_under_a_living_flush_is_harmless(scene: Scene, configure: Configure) -> None:
    """A stopped worker's claim is rescued and flushed by another; then the worker goes on with what it read."""
    older = scene.run(4)
    scene.settle()
    newest = scene.run(5)
    stopped = scene.flush("raised")
    assert stopped.is_paused
    assert rescued(scene, configure) == 1
    scene.host.move_to_workspace(newest, scene.beyond)
    again = scene.flush()
    assert again.waits
    stopped.finish()
    again.finish()
    scene.shows(older, newest)


@pytest.mark.parametrize("gone", ["deleted", "moved"])
def test_a_row_set_back_by_a_flush_that_dies_before_its_look(scene: Scene, configure: Configure, gone: str) -> None:
    """R5 is deleted; a flush sets the row back to R4, which goes just then, and whose own flush finds no row yet. The
    flush dies between its commit and the look after it. Whoever flushes its claim again sees a row that names R4, not
    R5: so the claim must know of R4, from before the commit."""
    older, newest = scene.run(3), scene.run(5)
    runner_up = scene.run_beyond(4)
    newest.delete()
    dying = scene.flush("searched", "about to look")
    assert dying.is_paused
    if gone == "deleted":
        scene.in_part(runner_up).delete()
    else:
        scene.host.move_to_workspace(runner_up, scene.beyond)
    finish(scene.flush_others())
    dying.go_on().kill()
    assert rescued(scene, configure) == 1
    scene.shows(older, *([runner_up] if gone == "moved" else []))


def test_a_flush_that_has_lost_its_claim_sets_nothing_back(scene: Scene, configure: Configure) -> None:
    """A stopped worker's claim was rescued and is another's. What it would set a row back to could not be remembered
    any more, so it must not write."""
    older, newest = scene.run(4), scene.run(5)
    before = scene.settle()
    newest.delete()
    stopped = scene.flush("looked")
    assert stopped.is_paused
    assert rescued(scene, configure) == 1
    stopped.finish()
    assert Counter(stored()) == Counter(before)
    scene.shows(older)


def test_a_claim_keeps_what_its_later_batches_are_about(scene: Scene, configure: Configure) -> None:
    """A claim is flushed in batches. The first, R5 deleted, sets a row back to R4, which is remembered with the claim
    and forgotten with the batch. R4 is shown again, for a user of its own, and is itself in the second batch, which
    dies. It must not have been forgotten with the first."""
    configure(FLUSH_BATCH=1)
    hidden = scene.run(4, user=scene.host.make_user(), hidden=True)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    until(lambda: any((shard.oldest_pending_s or 0) > 0.005 for shard in inbox.status()))  # so it is claimed first
    scene.host.unhide(hidden)
    dying = scene.flush("searched", "raised")
    assert dying.is_paused
    assert dying.go_on().is_paused
    dying.kill()
    assert sum(shard.claims for shard in inbox.status()) == 1
    rescued(scene, configure)
    scene.shows(hidden)


def test_a_flush_that_has_lost_its_claim_raises_nothing_either(scene: Scene, configure: Configure) -> None:
    """A worker is stopped between its claim and its write; the claim is rescued, flushed and acknowledged by another.
    The worker goes on, reads R6 here, and is about to commit it. R6 moves; its flushes, of other shards, find nothing
    to take back. The worker commits, and dies before its look. Nobody remembers R6 any more."""
    older = scene.run(4)
    newest = scene.run_beyond(6, hidden=True)
    announce([newest])
    stopped = scene.flush("claimed", "raised", "about to look")
    assert rescued(scene, configure) == 1
    scene.shows(older)
    scene.host.unhide(scene.in_part(newest))
    stopped.go_on()
    scene.host.move_to_workspace(scene.fresh(newest.pk), scene.beyond)
    while others := scene.flush_others():  # also what they hand on to each other
        finish(others)
    if stopped.is_paused and stopped.go_on().is_paused:
        stopped.kill()
    scene.shows(older, newest)


def test_a_flush_inside_a_transaction_is_refused(scene: Scene, configure: Configure) -> None:
    """As where a host's base class of tasks opens one: it would acknowledge what may still be rolled back, and look
    after a commit that is none. Its claim is left to others."""
    run = scene.run(1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        flush(scene.shard)
    assert scene.names()
    assert rescued(scene, configure) == 1
    scene.shows(run)


def test_a_flush_without_autocommit_is_refused(scene: Scene, configure: Configure) -> None:
    """Nothing would commit it: its rows would be gone with the connection, and its claim acknowledged."""
    run = scene.run(1)

    def without_autocommit() -> None:
        connection.set_autocommit(False)
        flush(scene.shard)

    with pytest.raises(NothingCommits, match="AUTOCOMMIT"):
        Actor(without_autocommit).finish()
    assert rescued(scene, configure) == 1
    scene.shows(run)


@pytest.fixture
def own_redis(configure: Configure, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a server that other tests do not use."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    try:
        configure(REDIS_URL=server.url)
        with redis.Redis.from_url(server.url) as client:
            yield client
    finally:
        server.stop()


def test_an_inbox_that_fills_redis_drains(
    scene: Scene, own_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only acknowledgements make it smaller, so they must be possible, and what comes before them."""
    sent: list[int] = []
    runs = [scene.run(minute) for minute in (1, 2, 3)]
    scene.settle()
    runs[2].delete()
    scene.run(4, workspace=scene.earlier).delete()
    scene.host.hide(runs[1])
    own_redis.config_set("maxmemory", 1)  # it refuses what needs more
    with pytest.raises(InboxUnavailable):
        inbox.add({encode(runs[0].pk): scene.shard}, patient=True)
    inbox.unmark([scene.shard])
    monkeypatch.setattr(dispatch, "send_flush", lambda shard, **_: sent.append(shard))
    rescue(scene.shard)
    assert sent == [scene.shard]
    scene.shows(runs[0])
    assert sum(shard.claims for shard in inbox.status()) == 0
