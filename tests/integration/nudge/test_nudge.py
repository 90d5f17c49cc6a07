"""A quiet shard is flushed at once, a busy one once a window, an idle one never."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
import redis
from celery import Celery
from django.db import connection, transaction
from django.db.models.functions import Now

from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.integration.nudge.conftest import Taken, perform
from tests.oracle import assert_exact, stored
from tests.threads import ShardLock
from workflows_tasks import conf, history, keys, queues
from workflows_tasks.capture import nudge
from workflows_tasks.models import Shard
from workflows_tasks.projection import backlog, chain
from workflows_tasks.projection import flush as flushing
from workflows_tasks.tasks import flush

host_independent = pytest.mark.host_independent
GRACE_MS = nudge.GRACE_S * 1000


def due_in_s(message: Any) -> float:
    """Seconds from now until a message is due."""
    eta = message.headers["eta"]
    return (datetime.fromisoformat(eta) - datetime.now(timezone.utc)).total_seconds() if eta else 0.0


def test_a_quiet_shard_is_flushed_at_once(live: Host, connected: Gate, run: Any, taken: Taken, shard: int) -> None:
    before = connected.bursts
    live.save_again(run)
    (message,) = taken()
    assert connected.bursts - before == 1
    assert message.headers["task"] == "workflows_tasks.tasks.flush"
    assert message.payload[:2] == [[shard, 0], {"due_us": None, "gated": False}]
    assert message.headers["eta"] is None
    limit_s = conf.settings().flush_time_limit_s
    assert message.headers["timelimit"] == [limit_s, limit_s]


@host_independent
def test_a_save_nudges_the_shard_of_the_settings_in_force(
    live: Host, connected: Gate, run: Any, taken: Taken, shard: int, configure: Configure
) -> None:
    """A process remembers the shards of its workspaces."""
    for shards, expected in ((conf.settings().shards, shard), (1, 0)):
        configure(SHARDS=shards)
        nudge.reset()
        nudge.unmark(expected)
        live.save_again(run)
        (message,) = taken()
        assert message.payload[0][0] == expected


def test_until_that_flush_saves_send_nothing_more(live: Host, connected: Gate, run: Any, taken: Taken) -> None:
    for _ in range(10):
        live.save_again(run)
    assert len(taken()) == 1


@host_independent
@pytest.mark.parametrize("saves", [1, 3, 5, 12])
def test_a_flush_that_took_changes_sends_the_next_the_later_the_more_it_took(
    live: Host, connected: Gate, run: Any, taken: Taken, marker_ms: Callable[[int], int], saves: int, shard: int
) -> None:
    for _ in range(saves):
        live.save_again(run)
    taken()
    flush(shard)
    (following,) = taken()
    delay_s = min(1.0, saves / chain.CHANGES_A_WINDOW) * conf.settings().flush_window_s
    assert delay_s - 0.5 < due_in_s(following) <= delay_s
    assert 1000 * delay_s + GRACE_MS - 500 < marker_ms(shard) <= 1000 * delay_s + GRACE_MS


@host_independent
def test_a_quorum_queue_delays_by_whole_seconds(
    live: Host, connected: Gate, run: Any, taken: Taken, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.save_again(run)
    taken()
    monkeypatch.setattr(queues, "delays_in_whole_seconds", lambda _: True)
    flush(shard)
    (following,) = taken()
    assert 0.5 < due_in_s(following) <= 1.0, "a fifth of a window otherwise"


@host_independent
def test_a_busy_shard_costs_no_message_and_one_round_trip_a_window(
    live: Host, connected: Gate, run: Any, taken: Taken, configure: Configure, shard: int
) -> None:
    configure(FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    for _ in range(chain.CHANGES_A_WINDOW):
        live.save_again(run)
    flush(shard)
    assert len(taken()) == 2
    live.save_again(run)  # is told when the next flush is due
    before = connected.bursts
    for _ in range(20):
        live.save_again(run)
    assert connected.bursts == before
    assert taken() == []


@host_independent
def test_the_gate_opens_when_the_flush_is_due(
    live: Host,
    connected: Gate,
    run: Any,
    taken: Taken,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    shard: int,
) -> None:
    """Not before: what is committed until then is in that flush. Not later: it may have ended."""
    configure(FLUSH_WINDOW_S=5.0)
    for _ in range(chain.CHANGES_A_WINDOW):
        live.save_again(run)
    flush(shard)
    live.save_again(run)
    asked = connected.bursts
    clock = time.monotonic
    for later_s, asks in ((4.0, 0), (5.1, 1)):
        monkeypatch.setattr(time, "monotonic", lambda later_s=later_s: clock() + later_s)
        live.save_again(run)
        monkeypatch.setattr(time, "monotonic", clock)
        assert connected.bursts - asked == asks


@host_independent
def test_a_flush_that_found_nothing_ends_the_chain(
    live: Host, connected: Gate, run: Any, taken: Taken, marker_ms: Callable[[int], int], shard: int
) -> None:
    live.save_again(run)
    perform(*taken())
    (following,) = taken()
    assert marker_ms(shard) > 0
    perform(following)
    assert taken() == []
    assert marker_ms(shard) == -2


@host_independent
def test_a_worker_waits_longer_for_redis_than_a_save_does(
    live: Host,
    connected: Gate,
    run: Any,
    taken: Taken,
    marker_ms: Callable[[int], int],
    shard: int,
    configure: Configure,
) -> None:
    """A marker that stays behind would silence savers."""
    live.save_again(run)
    perform(*taken())
    configure(SAVE_TIMEOUT_S=1e-6)
    perform(*taken())
    assert marker_ms(shard) == -2


@host_independent
def test_an_idle_shard_costs_nothing(live: Host, connected: Gate, taken: Taken, shard: int) -> None:
    flush(shard)
    assert taken() == []
    assert not backlog.status()[shard].pending


@host_independent
def test_what_is_committed_between_the_last_look_and_the_end_of_the_marker_is_seen(
    live: Host, connected: Gate, run: Any, taken: Taken, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    """The saver is told that a flush is under way, but that one has looked already."""
    live.save_again(run)
    perform(*taken())
    unmark = nudge.unmark

    def saved_before(shard: int) -> None:
        live.save_again(run)
        nudge.reset()  # the worker is another process than the saver
        unmark(shard)

    monkeypatch.setattr(nudge, "unmark", saved_before)
    perform(*taken())
    assert len(taken()) == 1


@host_independent
def test_a_flush_that_ran_out_of_time_is_followed_at_once(
    live: Host, connected: Gate, run: Any, taken: Taken, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.save_again(run)
    waiting = taken()
    clock, calls = time.monotonic, count()
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 10 * next(calls))
    perform(*waiting)
    (following,) = taken()
    assert following.headers["eta"] is None


@host_independent
def test_a_flush_that_finds_another_due_sends_none(
    live: Host,
    connected: Gate,
    run: Any,
    taken: Taken,
    shard: int,
    marker_ms: Callable[[int], int],
    configure: Configure,
) -> None:
    """So several messages make one chain, and savers learn again when its next flush is due."""
    configure(FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    live.save_again(run)
    perform(*taken())
    (following,) = taken()
    nudge.unmark(shard)
    nudge.reset()
    live.save_again(run)  # Redis was emptied, say
    perform(*taken())
    assert_exact(live)
    assert taken() == []
    assert GRACE_MS < marker_ms(shard) <= GRACE_MS + 1000 * conf.settings().flush_window_s
    live.save_again(run)
    perform(following)
    assert len(taken()) == 1, "the chain goes on"


@host_independent
def test_a_chain_goes_on_where_its_flush_found_the_shard_busy(
    live: Host, run: Any, quiet: None, taken: Taken, shard: int, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while another holds the shard, which began when it was still due later."""
    configure(REDIS_URL="", FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    live.save_again(run)
    perform(*taken())
    (following,) = taken()
    real = flushing.flush

    def flush_beside(shard: int, **how: Any) -> Any:
        monkeypatch.setattr(chain, "flush", real)
        with ShardLock(shard):
            perform(following)
        Shard.objects.filter(number=shard).update(due_at=Now())  # its time has come meanwhile
        return real(shard, **how)

    monkeypatch.setattr(chain, "flush", flush_beside)
    live.save_again(run)
    flush(shard)
    assert_exact(live)
    assert due_in_s(taken()[-1]) > 0, "the next message"


@host_independent
def test_after_a_failure_no_flush_is_counted_on(
    live: Host, run: Any, quiet: None, taken: Taken, shard: int, configure: Configure
) -> None:
    """A failed flush notes when the next may be tried, and sends nothing."""
    configure(FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    live.save_again(run)
    (message,) = taken()
    Shard.objects.filter(number=shard).update(failing_since=Now(), due_at=Now() + timedelta(seconds=60))
    perform(message)
    assert len(taken()) == 1


@host_independent
def test_a_chain_does_not_end_before_a_gated_sender_may_send_again(
    live: Host, run: Any, quiet: None, taken: Taken, shard: int, configure: Configure
) -> None:
    configure(REDIS_URL="", FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    live.save_again(run)
    (gated,) = taken()
    flush(shard)  # another process's message was sooner
    (soon,) = taken()
    assert due_in_s(soon) < 10
    perform(gated)
    assert taken() == []
    perform(soon)
    (late,) = taken()
    assert 25 < due_in_s(late) <= 30
    live.save_again(run)
    assert taken() == [], "the sender's gate is closed"
    perform(late)
    assert_exact(live)


@host_independent
def test_a_message_too_many_finds_the_shard_busy_or_empty_and_sends_nothing(
    live: Host, connected: Gate, run: Any, taken: Taken, shard: int
) -> None:
    live.save_again(run)
    taken()
    with ShardLock(shard):
        flush(shard)
    assert taken() == []
    assert backlog.status()[shard].pending == 1


@host_independent
def test_a_marker_that_lives_for_an_hour_silences_nobody(
    live: Host, connected: Gate, run: Any, taken: Taken, alone: str, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    """Redis' clock stepped back. A process asks again once a window is over, and a tick has made the marker anew."""
    live.save_again(run)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.pexpire(f"{alone}:{shard}", 3_600_000)
        nudge.reset()
        live.save_again(run)
        now_s = time.monotonic()
        assert nudge._due_s[shard] <= now_s + max(conf.settings().flush_window_s, 1.0)
        client.delete(f"{alone}:{shard}")
    taken()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 2.0)
    live.save_again(run)
    assert len(taken()) == 1


@host_independent
def test_a_marker_whose_message_was_lost_goes_by_itself(
    live: Host, connected: Gate, run: Any, taken: Taken, alone: str, marker_ms: Callable[[int], int], shard: int
) -> None:
    live.save_again(run)
    assert len(taken()) == 1  # and lost
    assert 0 < marker_ms(shard) <= GRACE_MS
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.pexpire(f"{alone}:{shard}", 1)
        while client.exists(f"{alone}:{shard}"):
            pass
    live.save_again(run)
    assert len(taken()) == 1


@host_independent
def test_redis_holds_one_marker_a_shard_and_nothing_else(live: Host, configure: Configure, alone: str) -> None:

    for _ in range(60):
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        held = {key.decode() for key in client.scan_iter(f"*{alone}*")}
        assert {key: client.ttl(key) > 0 for key in held} == {f"{alone}:{n}": True for n in range(8)}


def test_every_shard_has_its_own_message(live: Host, taken: Taken) -> None:
    workspaces = [live.make_workspace() for _ in range(12)]
    for workspace in workspaces:
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=live.make_user())
    shards = {keys.shard_of(history.workspace_text(each), conf.settings().shards) for each in workspaces}
    assert len(shards) > 1
    assert sorted(message.payload[0][0] for message in taken()) == sorted(shards)


def test_a_rolled_back_save_sends_nothing(live: Host, connected: Gate, run: Any, taken: Taken) -> None:
    with transaction.atomic():
        live.save_again(run)
        assert taken() == [], "nothing is committed yet"
        transaction.set_rollback(True)
    assert taken() == []


def test_a_save_of_other_fields_sends_nothing(live: Host, connected: Gate, run: Any, taken: Taken, shard: int) -> None:
    live.save_irrelevant(run)
    assert taken() == []
    assert not backlog.status()[shard].pending
    live.hide(run)  # update_fields as well, but one that matters
    assert len(taken()) == 1


@pytest.mark.where_allowed("alias")
def test_a_save_through_a_proxy_or_a_multi_table_parent_sends_a_message(
    live: Host, connected: Gate, run: Any, taken: Taken
) -> None:
    """A parent has no workspace to find the shard by: the tick finds its change."""
    aliased = live.alias_model._base_manager.get(pk=run.pk)
    aliased.save()
    has_workspace = isinstance(aliased, live.run_model)
    assert len(taken()) == (1 if has_workspace else 0)


@host_independent
def test_a_save_in_another_database_sends_nothing(live: Host, connected: Gate, run: Any, taken: Taken) -> None:
    nudge._nudge_after_save(instance=run, using="another", update_fields=None)
    assert taken() == []


class Unruly:
    """A value of a host's own field, which raises what it likes."""

    def __int__(self) -> int:
        raise KeyError("as a test says")


@host_independent
@pytest.mark.parametrize("value", ["no number", Unruly(), 10**400, float("nan")], ids=["text", "unruly", "huge", "nan"])
def test_a_key_that_is_none_raises_nothing_of_ours(live: Host, connected: Gate, value: Any) -> None:
    """The database is who must refuse it."""
    unsaved = live.run_model()
    unsaved.__dict__[live.run_model._meta.get_field(live.workspace_field).attname] = value
    nudge._nudge_after_save(instance=unsaved, using=connection.alias, update_fields=None)


def test_eager_tasks_flush_at_once(live: Host, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(celery_app_in_process.conf, "task_always_eager", True)
    monkeypatch.setitem(celery_app_in_process.conf, "task_eager_propagates", True)
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    assert_exact(live)
    assert len(stored()) == 2


def test_without_redis_a_save_sends_its_own_message_once_a_window(
    live: Host, configure: Configure, run: Any, quiet: None, taken: Taken
) -> None:
    configure(REDIS_URL="", FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    for _ in range(10):
        live.save_again(run)
    (message,) = taken()
    assert message.headers["eta"] is None
    perform(message)
    (following,) = taken()
    assert 25 < due_in_s(following) <= 30
