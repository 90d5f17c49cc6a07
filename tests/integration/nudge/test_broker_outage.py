"""The broker is down or hangs: a save goes on, and the tick sends the message later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from django.db import transaction

from tests.conftest import AS_SHIPPED, PATIENT, Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.integration.nudge.conftest import Taken, perform
from tests.integration.nudge.test_redis_outage import counted, times_logged
from tests.oracle import assert_exact, flush_all
from tests.waiting import until
from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.models import Shard
from workflows_tasks.tasks import flush
from workflows_tasks.tick import tick

pytestmark = pytest.mark.host_independent

FAILED, RECOVERED = "The broker does not answer", "The broker answers again"
SCHEMES = {"redis": "redis://127.0.0.1:6379/1", "amqp": "amqp://guest:guest@127.0.0.1:5672//"}


@pytest.fixture
def well() -> str:
    """URL of the broker that works."""
    return os.environ["CELERY_BROKER_URL"]


@pytest.fixture(params=[f"{scheme} {outage}" for scheme in SCHEMES for outage in ("refuse", "hang")])
def gate(
    request: pytest.FixtureRequest, well: str, quiet: None, configure: Configure, celery_app_in_process: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Gate]:  # fmt: skip
    """In place of the broker: nothing, or something that never answers."""
    scheme, outage = request.param.split()
    with Gate(SCHEMES[scheme]) as gate:
        getattr(gate, outage)()
        configure(**{**AS_SHIPPED, "SAVE_TIMEOUT_S": 5.0})
        monkeypatch.setenv("CELERY_BROKER_URL", gate.url)  # which Celery puts before the app's own setting
        monkeypatch.setitem(celery_app_in_process.conf, "broker_transport_options", {})
        yield gate


def test_a_save_goes_on_leaves_no_marker_and_waits_no_longer_than_the_setting_says(
    live: Host, run: Any, gate: Gate, caplog: pytest.LogCaptureFixture, marker_ms: Callable[[int], int], shard: int
) -> None:
    """A marker without a message would silence its shard."""
    costs = []
    for _ in range(5):
        nudge.reset()
        started = time.perf_counter()
        live.save_again(run)
        costs.append(time.perf_counter() - started)
        assert marker_ms(shard) == -2
    assert min(costs) < conf.settings().broker_timeout_s + 0.1
    assert times_logged(caplog, FAILED) == 5
    flush_all()
    assert len(assert_exact(live)) == 2


def test_a_transaction_over_many_shards_waits_once(live: Host, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message is tried, whose timeout the save waits for, and not one for each of the shards."""
    tried = []
    producer = nudge._producer

    def counting() -> Any:
        tried.append(1)
        return producer()

    monkeypatch.setattr(nudge, "_producer", counting)
    fields = {"workflow": live.make_workflow(), "user": live.make_user()}
    with transaction.atomic():
        for workspace in [live.make_workspace() for _ in range(30)]:
            live.make_run(workspace=workspace, **fields)
    assert len(tried) == 1


def test_while_it_stays_down_no_save_tries_it(
    live: Host, run: Any, gate: Gate, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(PAUSE_S=30.0)
    live.save_again(run)
    tried = gate.connections
    for _ in range(10):
        live.save_again(run)
    assert gate.connections == tried
    assert times_logged(caplog, FAILED) == 1


def test_after_the_outage_the_tick_sends_what_is_due_and_saves_send_again(
    live: Host, run: Any, gate: Gate, well: str, configure: Configure, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, taken: Taken, shard: int,
) -> None:  # fmt: skip
    configure(PAUSE_S=0.01)
    live.save_again(run)
    configure(**PATIENT)
    monkeypatch.setenv("CELERY_BROKER_URL", well)

    def sent() -> bool:
        return shard in tick()

    until(sent)
    messages = taken()
    assert shard in [message.payload[0][0] for message in messages]
    assert times_logged(caplog, RECOVERED) == 1
    before = counted("nudge_failures")
    perform(*messages)
    assert counted("nudge_failures") > before, "the failure is counted by the first message that goes"
    perform(*taken())
    live.save_again(run)
    assert len(taken()) == 1


def test_a_flush_whose_next_message_is_not_taken_counts_on_none(
    live: Host, run: Any, gate: Gate, shard: int, marker_ms: Callable[[int], int], configure: Configure
) -> None:
    configure(FLUSH_WINDOW_S=30.0, FLUSH_TIME_LIMIT_S=60.0)
    nudge.reset()
    live.save_again(run)
    nudge.reset()
    flush(shard)
    assert_exact(live)
    assert Shard.objects.get(number=shard).due_at is None
    assert marker_ms(shard) == -2
