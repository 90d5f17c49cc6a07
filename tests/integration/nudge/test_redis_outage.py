"""Redis is down or hangs: a save goes on, waits a bounded time once, and sends a message of its own."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import redis
from celery import Celery
from django.db import transaction

from demo.servers import Valkey
from tests.conftest import AS_SHIPPED, Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.integration.nudge.conftest import Taken
from tests.oracle import assert_exact, flush_all
from tests.waiting import until
from workflows_tasks.capture import nudge
from workflows_tasks.models import Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.tasks import flush
from workflows_tasks.tick import tick

pytestmark = pytest.mark.host_independent

FAILED, RECOVERED = "Redis does not answer", "Redis answers again"
OUTAGES = pytest.mark.parametrize("outage", ["refuse", "hang"])


def broken_factory(*, timeout_s: float) -> Any:
    raise RuntimeError(f"the host's own client factory is broken; asked for {timeout_s} s")


def times_logged(caplog: pytest.LogCaptureFixture, start: str) -> int:
    return sum(record.getMessage().startswith(start) for record in caplog.records)


def seconds(live: Host, run: Any) -> float:
    """How long a save takes."""
    started = time.perf_counter()
    live.save_again(run)
    return time.perf_counter() - started


def counted(name: str) -> float:
    return telemetry.merged(Shard.objects.values_list("counters", flat=True)).get(name, 0)


@OUTAGES
@pytest.mark.parametrize("options", ["", "?socket_timeout=10&socket_connect_timeout=10&retry_on_timeout=yes"])
def test_a_save_waits_a_tenth_of_a_second_at_most(
    live: Host, run: Any, gate: Gate, configure: Configure, outage: str, options: str
) -> None:
    """Whatever the URL says, which may be the one of the project's cache."""
    getattr(gate, outage)()
    costs = []
    for _ in range(5):
        nudge.reset()
        configure(REDIS_URL=gate.url + options, **{**AS_SHIPPED, "BROKER_TIMEOUT_S": 5.0})
        costs.append(seconds(live, run))
    assert min(costs) < 0.1
    assert max(costs) < 2.0, "a bound on hanging, not on a busy machine"


def test_a_server_that_stands_still_is_waited_for_no_longer(
    live: Host, run: Any, configure: Configure, own_redis: Valkey
) -> None:
    """Its kernel still accepts connections, and takes what is sent."""
    configure(REDIS_URL=f"{own_redis.url}?socket_timeout=10", SAVE_TIMEOUT_S=0.04)
    live.save_again(run)
    own_redis.signal(signal.SIGSTOP)
    nudge.reset()
    assert seconds(live, run) < 2.0


def test_a_connection_that_went_silent_is_waited_for_once(
    live: Host, run: Any, connected: Gate, configure: Configure
) -> None:
    configure(SAVE_TIMEOUT_S=0.5)
    live.save_again(run)
    connected.hang()
    assert 0.5 < seconds(live, run) < 1.5
    assert seconds(live, run) < 0.5


@OUTAGES
def test_while_it_stays_down_no_save_tries_it_and_messages_go_once_a_window(
    live: Host, run: Any, connected: Gate, taken: Taken, configure: Configure, outage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    configure(SAVE_TIMEOUT_S=0.1, PAUSE_S=30.0, FLUSH_WINDOW_S=15.0)
    getattr(connected, outage)()
    live.save_again(run)
    tried = connected.connections, connected.bursts
    for _ in range(20):
        live.save_again(run)
    assert (connected.connections, connected.bursts) == tried
    assert times_logged(caplog, FAILED) == 1
    assert len(taken()) == 1
    flush_all()
    assert_exact(live)


def test_after_a_pause_it_is_tried_again_and_its_return_is_told(
    live: Host, run: Any, connected: Gate, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(PAUSE_S=0.0001, FLUSH_WINDOW_S=0.0001)
    connected.refuse()
    for _ in range(10):
        live.save_again(run)
    assert times_logged(caplog, FAILED) == 1, "a long outage is told once, however often it is tried"
    connected.forward()

    def recovered() -> bool:
        live.save_again(run)
        return times_logged(caplog, RECOVERED) == 1

    until(recovered)


def test_failures_are_counted_by_the_next_flush_message(
    live: Host, run: Any, connected: Gate, taken: Taken, shard: int, configure: Configure
) -> None:
    configure(PAUSE_S=0.0001, FLUSH_WINDOW_S=0.0001)
    connected.refuse()
    for _ in range(3):
        live.save_again(run)
    carried = [message.payload[0] for message in taken()]
    assert [each[1] for each in carried] == [1, 1, 1]
    connected.forward()
    before = counted("nudge_failures")
    for number, failures in carried:
        flush(number, failures)
    assert counted("nudge_failures") - before == 3
    taken()
    nudge._due_s.clear()
    nudge.unmark(shard)
    live.save_again(run)
    assert [message.payload[0][1] for message in taken()] == [0], "what was carried is not carried again"


def test_a_commit_of_many_runs_waits_once(live: Host, run: Any, connected: Gate, configure: Configure) -> None:
    configure(SAVE_TIMEOUT_S=0.5)
    connected.hang()
    started = time.perf_counter()
    with transaction.atomic():
        for _ in range(10):
            live.save_again(run)
    assert time.perf_counter() - started < 3.0
    flush_all()
    assert_exact(live)


def test_a_delete_asks_nobody(live: Host, run: Any, connected: Gate) -> None:
    """The tick finds its change."""
    before = connected.bursts
    connected.refuse()
    run.delete()
    assert connected.bursts == before
    connected.forward()
    assert tick()
    flush_all()
    assert assert_exact(live) == []


def test_a_client_factory_that_raises_hinders_no_save(
    live: Host, run: Any, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(REDIS_URL=f"{__name__}.broken_factory")
    live.save_again(run)
    live.save_again(run)
    assert times_logged(caplog, FAILED) == 1


def test_a_client_factory_is_given_the_time_and_used(
    live: Host, run: Any, configure: Configure, taken: Taken, alone: str, shard: int
) -> None:
    nudge.reset()
    taken()
    configure(REDIS_URL=f"{__name__}.own_client", SAVE_TIMEOUT_S=3.5)
    live.save_again(run)
    assert len(made) == 1
    assert made[0].get(f"{alone}:{shard}") == b"1"


made: list[Any] = []


def own_client(*, timeout_s: float) -> Any:
    import redis

    made.append(redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=timeout_s))
    return made[-1]


def test_eager_tasks_and_no_redis_hinder_no_save(
    live: Host, run: Any, shard: int, gate: Gate, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's own tests."""
    monkeypatch.setitem(celery_app_in_process.conf, "task_always_eager", True)
    monkeypatch.setitem(celery_app_in_process.conf, "task_eager_propagates", True)
    gate.refuse()
    live.save_again(run)
    live.run_model._base_manager.all().delete()
    flush(shard)


def test_a_flush_goes_on_without_redis(
    live: Host, run: Any, connected: Gate, taken: Taken, shard: int, configure: Configure
) -> None:
    """Its own marker commands fail: it wrote its rows, and sends the next message all the same."""
    live.save_again(run)
    taken()
    connected.refuse()
    flush(shard)
    assert_exact(live)
    assert len(taken()) == 1


def test_a_server_without_memory_is_an_outage(
    live: Host, run: Any, taken: Taken, own_redis: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers, and refuses every write."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
    taken()
    live.save_again(run)
    assert times_logged(caplog, FAILED) == 1
    assert len(taken()) == 1
    flush_all()
    assert_exact(live)
