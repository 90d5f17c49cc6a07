"""The broker is down or hangs: a save goes on, its ids wait in the inbox, and the rescuer sends the message later."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.db import transaction

from tests import broker
from tests.conftest import AS_SHIPPED, PATIENT, Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from tests.waiting import until
from workflows_tasks import conf, dispatch, inbox
from workflows_tasks.breaker import Breaker
from workflows_tasks.flush import rescue

FAILED, RECOVERED = "flush message not sent", "broker answers again"
SCHEMES = {"redis": "redis://127.0.0.1:6379/1", "amqp": "amqp://guest:guest@127.0.0.1:5672//"}


@pytest.fixture
def well() -> str:
    """URL of the broker that works."""
    return os.environ["CELERY_BROKER_URL"]


@pytest.fixture(params=[f"{scheme} {outage}" for scheme in SCHEMES for outage in ("refuse", "hang")])
def gate(
    request: pytest.FixtureRequest,
    well: str,
    configure: Configure,
    celery_app_in_process: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Gate]:
    """In place of the broker: nothing, or something that never answers."""
    scheme, outage = request.param.split()
    with Gate(SCHEMES[scheme]) as gate:
        getattr(gate, outage)()
        configure(**{**AS_SHIPPED, "SAVE_TIMEOUT_S": 5.0})
        monkeypatch.setenv("CELERY_BROKER_URL", gate.url)  # which Celery puts before the app's own setting
        monkeypatch.setitem(celery_app_in_process.conf, "broker_transport_options", {})
        yield gate


def make(live: Host) -> Any:
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


def told(caplog: pytest.LogCaptureFixture, start: str) -> int:
    return sum(record.message.startswith(start) for record in caplog.records)


def test_a_save_goes_on_and_its_id_waits_without_a_marker(
    live: Host, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    make(live)
    (shard,) = (shard for shard in inbox.status() if shard.pending)
    assert not shard.scheduled
    assert told(caplog, FAILED) == 1
    assert sum(shard.stats.get("save_failures", 0) for shard in inbox.status()) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_a_save_waits_no_longer_than_the_setting_says(live: Host, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for _ in range(5):
        monkeypatch.setattr(dispatch, "_breaker", Breaker("broker"))
        started = time.perf_counter()
        make(live)
        costs.append(time.perf_counter() - started)
    assert min(costs) < conf.settings().broker_timeout_s + 0.1


def test_a_transaction_over_many_shards_waits_once(
    live: Host, gate: Gate, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is tried, whose timeout the save waits for, and not one for each of the shards."""
    configure(SHARDS=16)
    tried: list[int] = []
    send_flush = dispatch.send_flush

    def send_and_tell(shard: int) -> bool:
        tried.append(shard)
        return send_flush(shard)

    monkeypatch.setattr(dispatch, "send_flush", send_and_tell)
    runs = [live.make_workspace() for _ in range(40)]
    fields = {"workflow": live.make_workflow(), "user": live.make_user()}
    with transaction.atomic():
        for workspace in runs:
            live.make_run(workspace=workspace, **fields)
    assert len(tried) == 1
    assert not any(shard.scheduled for shard in inbox.status()), "a marker without a message would silence its shard"


def test_while_it_stays_down_no_save_tries_it(
    live: Host, gate: Gate, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(BREAKER_S=30.0)
    make(live)
    tried = gate.connections
    for _ in range(10):
        make(live)
    assert gate.connections == tried
    assert not any(shard.scheduled for shard in inbox.status())
    assert told(caplog, FAILED) == 1


def test_after_the_outage_the_rescuer_sends_what_is_due(
    live: Host, gate: Gate, well: str, alone: str, configure: Configure, celery_app_in_process: Celery,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    configure(SHARDS=1, BREAKER_S=0.01)
    run = make(live)
    configure(**PATIENT)
    monkeypatch.setenv("CELERY_BROKER_URL", well)
    rescue(0)
    assert broker.waiting(celery_app_in_process, alone) == 1
    assert told(caplog, RECOVERED) == 1
    live.save_again(run)
    assert broker.waiting(celery_app_in_process, alone) == 1, "one is under way"


def test_after_the_outage_saves_send_again(
    live: Host, gate: Gate, well: str, alone: str, configure: Configure, celery_app_in_process: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    configure(SHARDS=1, BREAKER_S=0.05)
    run = make(live)
    configure(**PATIENT)
    monkeypatch.setenv("CELERY_BROKER_URL", well)

    def sent() -> bool:
        live.save_again(run)
        return broker.waiting(celery_app_in_process, alone) == 1

    until(sent)
