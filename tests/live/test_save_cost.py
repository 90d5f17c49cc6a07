"""What a save costs: no SQL, one round trip, and hardly ever a message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.db import connection, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from tests import broker
from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.oracle import flush_all
from tests.waiting import until
from workflows_tasks import announce, conf, inbox
from workflows_tasks.flush import flush

QUIET_S = 0.03
"""Longer than a client takes between two parts of one request."""


def make(live: Host, workspace: Any = None) -> Any:
    workspace = workspace or live.make_workspace()
    return live.make_run(workspace=workspace, workflow=live.make_workflow(), user=live.make_user())


def scheduled() -> set[int]:
    return {shard.shard for shard in inbox.status() if shard.scheduled}


@pytest.fixture
def gate(configure: Configure) -> Iterator[Gate]:
    with Gate(os.environ["REDIS_URL"], merge_s=QUIET_S) as gate:
        configure(REDIS_URL=gate.url, SAVE_TIMEOUT_S=5.0)
        yield gate


def statements(run: Any, live: Host) -> list[str]:
    """The SQL of a save in a transaction, commit included; parameters, which differ, are left out."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        live.save_again(run)
    return [query["sql"].split(" ", 1)[0] for query in captured]


def test_a_save_does_no_sql_of_ours(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(live)
    watched = statements(run, live)
    assert sum(shard.pending for shard in inbox.status()) == 1
    with monkeypatch.context() as unwatched:
        for signal in (pre_save, post_save):
            unwatched.setattr(signal, "receivers", [])
            signal.sender_receivers_cache.clear()
        flush_all()
        alone = statements(run, live)
        assert not any(shard.pending for shard in inbox.status())
    for signal in (pre_save, post_save):
        signal.sender_receivers_cache.clear()
    assert watched == alone


def test_a_deferred_column_is_not_loaded_to_announce_a_save(live: Host) -> None:
    run = make(live)
    flush_all()
    partial = type(run)._base_manager.only("pk").get(pk=run.pk)
    relevant = next(iter(live.shown))
    setattr(partial, relevant, live.shown[relevant])
    with CaptureQueriesContext(connection) as captured:
        partial.save(update_fields=[relevant])
    assert not any(query["sql"].startswith("SELECT") for query in captured)
    assert sum(shard.pending for shard in inbox.status()) == 1


def test_a_transaction_costs_one_round_trip_however_many_runs_it_saves(live: Host, gate: Gate) -> None:
    run = make(live)  # opens the connection, which has greetings of its own
    for count in (1, 40):
        before = gate.bursts
        with transaction.atomic():
            for _ in range(count):
                make(live)
            live.save_again(run)
        assert gate.bursts - before == 1
    assert len([shard for shard in inbox.status() if shard.pending]) > 1
    assert sum(shard.pending for shard in inbox.status()) == 42


def test_a_save_outside_a_transaction_costs_one_round_trip(live: Host, gate: Gate) -> None:
    run = make(live)
    before = gate.bursts
    run.save()
    assert gate.bursts - before == 1


def test_announce_costs_one_round_trip(live: Host, gate: Gate) -> None:
    runs = [make(live) for _ in range(20)]
    before = gate.bursts
    assert announce(runs) == 20
    assert gate.bursts - before == 1


def test_one_flush_message_per_shard_and_window(live: Host, alone: str, celery_app_in_process: Celery) -> None:
    workspaces = [live.make_workspace() for _ in range(30)]
    for workspace in workspaces * 2:
        make(live, workspace)
    shards = scheduled()
    assert 1 < len(shards) <= conf.settings().shards
    messages = broker.take_all(celery_app_in_process, alone)
    assert sorted(message.payload[0][0] for message in messages) == sorted(shards)
    assert {message.headers["task"] for message in messages} == {"workflows_tasks.tasks.flush"}
    assert all(message.headers["eta"] for message in messages), "a flush waits for the window"


def test_saving_the_same_run_many_times_costs_one_entry(live: Host) -> None:
    run = make(live)
    for _ in range(20):
        live.save_again(run)
    assert sum(shard.pending for shard in inbox.status()) == 1


def test_the_claim_frees_the_marker(live: Host, alone: str, celery_app_in_process: Celery) -> None:
    run = make(live)
    live.save_again(run)
    assert broker.waiting(celery_app_in_process, alone) == 1
    (shard,) = scheduled()
    flush(shard)
    assert scheduled() == set()
    live.save_again(run)
    assert broker.waiting(celery_app_in_process, alone) == 2
    assert scheduled() == {shard}


def test_a_marker_whose_message_was_lost_expires(
    live: Host, alone: str, configure: Configure, celery_app_in_process: Celery
) -> None:
    configure(FLUSH_WINDOW_S=0.05, MARKER_S=0.1)
    run = make(live)
    assert len(broker.take_all(celery_app_in_process, alone)) == 1  # and lost

    def sent_again() -> bool:
        live.save_again(run)
        return broker.waiting(celery_app_in_process, alone) == 1

    until(sent_again)


def test_a_full_inbox_drops_and_counts_and_keeps_what_it_has(live: Host, configure: Configure) -> None:
    configure(SHARDS=1, INBOX_LIMIT=3)
    workspace = live.make_workspace()
    runs = [make(live, workspace) for _ in range(5)]
    live.save_again(runs[0])  # waits already, so it needs no room
    (shard,) = inbox.status()
    assert (shard.pending, shard.stats["dropped"]) == (3, 2)
    waiting = inbox.where_is([str(run.pk) for run in runs])
    assert set(waiting) == {str(run.pk) for run in runs[:3]}
