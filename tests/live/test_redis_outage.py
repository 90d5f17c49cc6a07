"""Redis is down or hangs: a save goes on, at little cost; its announcement comes later, or is counted as lost."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.db import transaction

from tests.conftest import AS_SHIPPED, PATIENT, Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from tests.waiting import until
from workflows_tasks import announce, announcements, dispatch, inbox, tally
from workflows_tasks.errors import InboxUnavailable
from workflows_tasks.flush import flush

FAILED, RECOVERED = "inbox does not answer", "inbox answers again"


def broken_factory(*, timeout_s: float) -> Any:
    raise RuntimeError(f"the host's own client factory is broken; asked for {timeout_s} s")


@pytest.fixture
def gate(configure: Configure) -> Iterator[Gate]:
    with Gate(os.environ["REDIS_URL"]) as gate:
        configure(REDIS_URL=gate.url, BREAKER_S=30.0)
        yield gate


@pytest.fixture
def run(live: Host, gate: Gate) -> Any:
    """A run saved while all was well, over a connection that is kept."""
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


def told(caplog: pytest.LogCaptureFixture, start: str) -> int:
    return sum(record.message.startswith(start) for record in caplog.records)


def counted(name: str) -> float:
    return sum(shard.stats.get(name, 0) for shard in inbox.status())


def seconds(live: Host, run: Any) -> float:
    """How long a save takes."""
    started = time.perf_counter()
    live.save_again(run)
    return time.perf_counter() - started


@pytest.mark.parametrize("kept", [0, announcements.KEPT - 100])
@pytest.mark.parametrize("outage", ["refuse", "hang"])
def test_a_save_waits_a_tenth_of_a_second_at_most(
    live: Host, run: Any, gate: Gate, configure: Configure, outage: str, kept: int
) -> None:
    """Also late in an outage, when the process has kept what it could not announce."""
    announcements._kept.update({f"kept {number}": 0 for number in range(kept)})
    getattr(gate, outage)()
    costs = []
    for _ in range(5):
        configure(**AS_SHIPPED, BREAKER_S=0.0001)  # forgets the connection too
        costs.append(seconds(live, run))
    assert min(costs) < 0.1
    assert max(costs) < 1.0, "a bound on hanging, not on a busy machine"


def test_a_connection_that_went_silent_is_waited_for_once(
    live: Host, run: Any, gate: Gate, configure: Configure
) -> None:
    configure(SAVE_TIMEOUT_S=0.5)
    live.save_again(run)
    gate.hang()
    assert seconds(live, run) < 1.5
    assert seconds(live, run) < 0.5


@pytest.mark.parametrize("outage", ["refuse", "hang"])
def test_while_it_stays_down_no_save_tries_it(
    live: Host, run: Any, gate: Gate, configure: Configure, outage: str, caplog: pytest.LogCaptureFixture
) -> None:
    configure(SAVE_TIMEOUT_S=0.1)
    getattr(gate, outage)()
    live.save_again(run)
    tried = gate.connections
    for _ in range(20):
        live.save_again(run)
        announce([run])
    assert gate.connections == tried
    assert told(caplog, FAILED) == 1


def test_a_long_outage_is_logged_once_however_often_it_is_tried(
    live: Host, run: Any, gate: Gate, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(BREAKER_S=0.0001)
    gate.refuse()
    for _ in range(10):
        live.save_again(run)
    assert told(caplog, FAILED) == 1


def recovered(live: Host, run: Any, caplog: pytest.LogCaptureFixture) -> bool:
    live.save_again(run)
    return told(caplog, RECOVERED) == 1


def test_what_was_missed_is_announced_with_the_recovery(
    live: Host, run: Any, gate: Gate, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(BREAKER_S=0.0001)  # so that each tries
    flush_all()
    gate.refuse()
    missed = [
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
        for _ in range(7)
    ]
    gate.forward()
    until(lambda: recovered(live, run, caplog))
    assert len(inbox.where_is([str(each.pk) for each in missed])) == 7
    flush_all()
    assert len(assert_exact(live)) == 16
    assert not counted("undelivered")
    assert counted("save_failures") >= 7


def test_what_was_kept_follows_a_hundred_at_a_time_and_no_save_waits_long(
    live: Host, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is two fifths of the time later that a save may take for others."""
    flush_all()
    announcements._kept.update({f"kept {number}": 0 for number in range(650)})
    clock = (n * 0.4 * PATIENT["SAVE_TIMEOUT_S"] for n in range(10**6))
    monkeypatch.setattr(announcements, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    add, batches = inbox.add, Counter[int]()

    def counting(runs: Mapping[str, int], **how: Any) -> Any:
        batches[len(runs)] += 1
        return add(runs, **how)

    monkeypatch.setattr(inbox, "add", counting)
    live.save_again(run)
    assert batches == {1: 1, 100: 2}
    while announcements._kept:
        live.save_again(run)
    assert (batches[100], batches[50]) == (6, 1)
    assert sum(shard.pending for shard in inbox.status()) == 651


def test_a_batch_that_fails_is_kept_goes_behind_the_others_and_ends_no_outage(
    live: Host, run: Any, configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configure(BREAKER_S=0.0001)
    flush_all()
    announcements._kept.update({f"kept {number}": 0 for number in range(150)})
    add, failures = inbox.add, iter([True])

    def fails_once(runs: Mapping[str, int], **how: Any) -> Any:
        if len(runs) > 1 and next(failures, False):
            raise InboxUnavailable("as a test says")
        return add(runs, **how)

    monkeypatch.setattr(inbox, "add", fails_once)
    live.save_again(run)
    assert (told(caplog, FAILED), told(caplog, RECOVERED)) == (1, 0)
    assert next(iter(announcements._kept)) == "kept 100"
    until(lambda: recovered(live, run, caplog))
    assert not announcements._kept
    assert sum(shard.pending for shard in inbox.status()) == 151


def test_what_was_more_than_a_process_keeps_is_counted_once(
    live: Host, run: Any, gate: Gate, configure: Configure, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(announcements, "KEPT", 3)
    configure(BREAKER_S=0.05)
    gate.refuse()
    for _ in range(7):
        live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    gate.forward()
    until(lambda: recovered(live, run, caplog))
    live.save_again(run)

    assert counted("undelivered") >= 4
    before = counted("undelivered"), counted("save_failures")
    live.save_again(run)
    assert (counted("undelivered"), counted("save_failures")) == before


def test_nothing_to_deliver_takes_no_counts_along(live: Host) -> None:
    tally.add("save_failures")
    dispatch.deliver({})
    assert tally.taken() == {"save_failures": 1}


def test_a_commit_of_many_runs_is_not_hindered(live: Host, run: Any, gate: Gate, configure: Configure) -> None:
    configure(SAVE_TIMEOUT_S=0.1)
    gate.hang()
    with transaction.atomic():
        for _ in range(10):
            live.save_again(run)
    assert live.run_model._base_manager.filter(pk=run.pk).exists()


def test_a_delete_is_not_hindered(live: Host, run: Any, gate: Gate) -> None:
    gate.refuse()
    run.delete()
    assert not live.run_model._base_manager.exists()


def test_a_client_factory_that_raises_hinders_no_save(
    live: Host, run: Any, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(REDIS_URL=f"{__name__}.broken_factory")
    live.save_again(run)
    live.save_again(run)
    assert told(caplog, FAILED) == 1


def test_eager_tasks_and_no_redis_hinder_no_save(
    live: Host, run: Any, gate: Gate, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(celery_app_in_process.conf, "task_always_eager", True)
    monkeypatch.setitem(celery_app_in_process.conf, "task_eager_propagates", True)
    gate.refuse()
    live.save_again(run)
    live.run_model._base_manager.all().delete()


def test_eager_tasks_flush_at_once(live: Host, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(celery_app_in_process.conf, "task_always_eager", True)
    monkeypatch.setitem(celery_app_in_process.conf, "task_eager_propagates", True)
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    assert len(assert_exact(live)) == 2


def test_a_worker_is_told(live: Host, run: Any, gate: Gate) -> None:
    gate.refuse()
    with pytest.raises(InboxUnavailable, match="Check RECENT_WORKFLOWS"):
        flush(0)
