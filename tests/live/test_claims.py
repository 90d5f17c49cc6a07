"""Claims: what a flush took is nobody's until it is acknowledged, and is found again if it never is."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from django.db import OperationalError

from tests import broker
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all, stored
from tests.threads import ShardLock, beside, until_waiting
from tests.waiting import until
from workflows_tasks import conf, inbox
from workflows_tasks.flush import flush, rescue
from workflows_tasks.inbox import looks

AT_ONCE = {"CLAIM_LEASE_S": 0.02, "FLUSH_TIME_LIMIT_S": 0.01}
"""A lease that has run out when it is looked at."""

PATIENT = {"CLAIM_LEASE_S": 30.0, "FLUSH_TIME_LIMIT_S": 20.0}


@pytest.fixture
def run(live: Host, configure: Configure) -> Any:
    """A saved run that waits in the one shard."""
    configure(SHARDS=1)
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


def rescued(configure: Configure) -> None:
    """Wait until the one open claim is rescued."""
    configure(**AT_ONCE)
    until(lambda: rescue(0) == 1)
    configure(**PATIENT)


def test_a_claim_left_by_a_crash_is_rescued(
    live: Host, run: Any, alone: str, configure: Configure, celery_app_in_process: Celery
) -> None:
    crashed = inbox.claim(0)
    assert crashed is not None
    assert set(crashed.announced_ms) == {str(run.pk)}
    broker.take_all(celery_app_in_process, alone)
    flush_all()
    assert stored() == []
    rescued(configure)
    assert broker.waiting(celery_app_in_process, alone) == 1, "and a flush message is sent for it"
    flush_all()
    assert len(assert_exact(live)) == 2
    (shard,) = inbox.status()
    assert (shard.claims, shard.stats["released"]) == (0, 1)


def test_a_claim_within_its_lease_is_left_alone(live: Host, run: Any) -> None:
    assert inbox.claim(0) is not None
    assert rescue(0) == 0
    assert inbox.status()[0].claims == 1


def test_several_crashes_lose_nothing(live: Host, run: Any, configure: Configure) -> None:
    runs = [run]
    for _ in range(3):
        assert inbox.claim(0) is not None  # and crash
        runs.append(
            live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
        )
    assert inbox.status()[0].claims == 3
    configure(**AT_ONCE)
    released = 0

    def all_released() -> bool:
        nonlocal released
        released += rescue(0)
        return released == 3

    until(all_released)
    configure(**PATIENT)
    flush_all()
    assert {row.run for row in assert_exact(live)} == {run.pk for run in runs}


def test_an_id_keeps_its_first_time_through_a_rescue(live: Host, run: Any, configure: Configure) -> None:
    first = inbox.claim(0)
    assert first is not None
    until(lambda: inbox.status()[0].oldest_claim_s)
    live.save_again(run)  # announced again, later
    rescued(configure)
    again = inbox.claim(0)
    assert again is not None
    assert again.announced_ms == first.announced_ms


def test_a_flush_that_outlived_its_lease_takes_nothing_from_its_successor(
    live: Host, run: Any, configure: Configure
) -> None:
    slow = inbox.claim(0)
    assert slow is not None
    rescued(configure)
    successor = inbox.claim(0)
    assert successor is not None
    inbox.acknowledge(slow, list(slow.announced_ms), stats={}, aside={})
    (shard,) = inbox.status()
    assert (shard.pending, shard.claims) == (0, 1)
    assert inbox.release(0, [successor.token]) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_a_flush_that_cannot_get_the_lock_puts_its_claim_back(live: Host, run: Any, configure: Configure) -> None:
    configure(FLUSH_TIME_LIMIT_S=0.08, CLAIM_LEASE_S=1.0)
    with ShardLock(0), pytest.raises(OperationalError):
        flush(0)
    (shard,) = inbox.status()
    assert (shard.pending, shard.claims, shard.scheduled) == (1, 0, True)
    assert shard.stats["failures"] == 1
    configure(**PATIENT)
    flush_all()
    assert len(assert_exact(live)) == 2


def test_a_flush_waits_for_the_shards_lock(live: Host, run: Any) -> None:
    with beside() as start, ShardLock(0):
        flushed = start(lambda: flush(0))
        until_waiting(0, 1)
        assert stored() == []
        assert not flushed.done()
    assert flushed.result().runs == 1
    assert len(assert_exact(live)) == 2


def test_a_shard_with_ids_and_no_message_gets_one(
    live: Host, run: Any, alone: str, celery_app_in_process: Celery
) -> None:
    rescue(0)
    assert len(broker.take_all(celery_app_in_process, alone)) == 1, "one is under way"
    inbox.unmark([0])
    rescue(0)
    assert len(broker.take_all(celery_app_in_process, alone)) == 1
    flush_all()
    inbox.unmark([0])
    rescue(0)
    assert broker.waiting(celery_app_in_process, alone) == 0, "nothing is pending"


def test_the_message_carries_the_time_limit(live: Host, run: Any, alone: str, celery_app_in_process: Celery) -> None:
    """A worker kills a flush before another may take its claim."""
    (message,) = broker.take_all(celery_app_in_process, alone)
    assert message.headers["timelimit"] == [conf.settings().flush_time_limit_s] * 2, "the soft one is not the host's"


def test_an_id_that_goes_back_is_not_overlooked(live: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in a claim, which is released between the look at what is pending and that at claims."""
    claim, real = inbox.claim(0), looks._claim_keys
    assert claim is not None

    def listed() -> list[str]:
        inbox.release(0, [claim.token])
        return real()

    monkeypatch.setattr(looks, "_claim_keys", listed)
    assert inbox.where_is([str(run.pk)]) == {str(run.pk): "pending"}


def test_a_scope_that_is_claimed_meanwhile_is_not_overlooked(
    live: Host, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims are listed when pending was looked at, or it would be in neither."""
    inbox.add({"\0a scope": 0})
    real = looks._claim_keys

    def listed() -> list[str]:
        found = real()
        inbox.claim(0)
        return found

    monkeypatch.setattr(looks, "_claim_keys", listed)
    assert inbox.scopes_wait()


def test_many_are_asked_about_a_part_at_a_time(live: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "ASKED", 2)
    more = {str(number): 0 for number in range(-7, 0)}
    inbox.add(more)
    assert inbox.where_is([*more, "none"]) == dict.fromkeys(more, "pending")
