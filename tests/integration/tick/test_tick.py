"""What one look of beat does, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tests import broker
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from tests.sessions import locked
from workflows_tasks import conf
from workflows_tasks import host as hosts
from workflows_tasks.capture import catalogue, installation, triggers
from workflows_tasks.capture.tables import tables
from workflows_tasks.capture.triggers import ROW_TRIGGER
from workflows_tasks.models import CHANGES, Installation, Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog
from workflows_tasks.tasks import audit, flush
from workflows_tasks.tasks import tick as task
from workflows_tasks.tick import tick

Taken = Callable[[], list[int]]


@pytest.fixture
def taken(alone: str, celery_app_in_process: Celery) -> Taken:
    """``taken()`` takes the flush messages out of the queue: their shards."""
    return lambda: sorted(message.payload[0][0] for message in broker.take_all(celery_app_in_process, alone))


@pytest.fixture
def silent(live: Host, taken: Taken) -> Any:
    """A run that was inserted without a signal: nobody was nudged."""
    fields = {"workspaces": [live.make_workspace()], "workflows": [live.make_workflow()], "users": [live.make_user()]}
    flush_all()
    taken()
    shards = [Shard(number=number) for number in range(conf.settings().shards)]
    Shard.objects.bulk_create(
        shards, update_conflicts=True, unique_fields=["number"], update_fields=["due_at", "flushed_at"]
    )
    live.make_runs(1, **fields)
    return None


def waiting() -> list[int]:
    return [shard.shard for shard in backlog.status() if shard.pending]


def counted(name: str) -> float:
    return telemetry.merged(Shard.objects.values_list("counters", flat=True)).get(name, 0)


def the_installation() -> Installation:
    row: Installation = Installation.objects.get()
    return row


def test_a_write_that_sends_no_signal_is_flushed_after_the_next_look(live: Host, silent: None, taken: Taken) -> None:
    shards = waiting()
    assert shards
    assert tick() == shards == taken()
    for shard in shards:
        flush(shard)
    assert_exact(live)
    assert not waiting()


def test_where_nothing_waits_nothing_is_sent(live: Host, taken: Taken) -> None:
    flush_all()
    assert tick() == taken() == []
    before = the_installation().ticked_at
    assert before is not None
    task()
    after = the_installation().ticked_at
    assert after is not None
    assert after > before, "beat's heartbeat, all the same"


def test_where_a_flush_is_due_nothing_is_sent(live: Host, silent: None, taken: Taken) -> None:
    Shard.objects.update(due_at=Now() + timedelta(seconds=60))
    assert tick() == taken() == []


def test_an_overdue_message_counts_as_lost_and_is_sent_again(
    live: Host, silent: None, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    shards = waiting()
    Shard.objects.update(due_at=Now() - timedelta(seconds=10 * conf.settings().flush_window_s))
    before = counted("lost_messages")
    assert tick() == taken() == shards
    assert counted("lost_messages") - before == len(shards)
    assert sum(record.getMessage().startswith("flush messages lost") for record in caplog.records) == 1


def test_a_long_flush_is_at_work(live: Host, silent: None, taken: Taken) -> None:
    """It was due long ago, and commits slice after slice."""
    Shard.objects.update(due_at=Now() - timedelta(seconds=10 * conf.settings().flush_window_s), flushed_at=Now())
    before = counted("lost_messages")
    assert tick() == taken() == []
    assert counted("lost_messages") == before


def test_a_message_that_is_hardly_late_is_waited_for(live: Host, silent: None, taken: Taken) -> None:
    Shard.objects.update(due_at=Now() - timedelta(seconds=0.01))
    assert tick() == taken() == []


def test_quarantined_changes_wait_apart_until_their_time_comes(live: Host, silent: None, taken: Taken) -> None:
    shards = waiting()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = 'x', retry_at = clock_timestamp() + interval '1 h'")
    assert tick() == taken() == []
    with connection.cursor() as cursor:
        cursor.execute(f'UPDATE "{CHANGES}" SET retry_at = clock_timestamp()')
    assert tick() == taken() == shards


def test_the_broker_away_is_no_error(live: Host, silent: None, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be sent is sent by a later look."""
    from workflows_tasks.capture import nudge

    monkeypatch.setattr(nudge._broker, "_away_until_s", float("inf"))
    assert tick() == []
    nudge.reset()
    assert tick() == waiting() == taken()


def test_it_costs_few_statements_and_no_more_with_the_shards(live: Host) -> None:
    tick()
    with CaptureQueriesContext(connection) as captured:
        tick()
    assert len(captured) <= 10 + 6 * len(tables(hosts.host()))


@pytest.fixture
def without_trigger(live: Host) -> Any:
    """Somebody drops the run's trigger."""
    tick()
    with connection.cursor() as cursor:
        for table in tables(hosts.host()):
            if table.run:
                cursor.execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON {connection.ops.quote_name(table.name)}')
    yield
    installation.install()
    tick()


def test_it_tells_once_that_writes_are_not_captured_and_once_that_they_are(
    live: Host, without_trigger: None, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        tick()
    problem = the_installation().problems[0]
    assert ROW_TRIGGER in problem
    assert triggers.COMMAND in problem
    assert [record.getMessage() for record in caplog.records].count(f"capture: {problem}") == 1
    installation.install()
    tick()
    tick()
    assert the_installation().problems == []
    assert sum("all writes are captured again" in record.getMessage() for record in caplog.records) <= 1


@pytest.fixture
def written_uncaptured(live: Host) -> Any:
    """A run that nobody captured, and a look at everything that is asked for."""
    installation.turn_off()
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    installation.install()
    _request_a_look()


@pytest.mark.host_independent
@pytest.mark.parametrize("periodic", [task, audit])
def test_an_error_of_the_database_is_one_line(live: Host, periodic: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Every two seconds, in an outage."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {CHANGES} RENAME TO renamed")
        try:
            periodic()
        finally:
            cursor.execute(f"ALTER TABLE renamed RENAME TO {CHANGES}")
    lines = [record for record in caplog.records if "does not exist" in record.getMessage()]
    assert lines
    assert not any("\n" in record.getMessage() or record.exc_info for record in lines)


def _request_a_look() -> None:
    """Though our table is empty."""
    Installation.objects.update(rescan_waits_for=sorted(catalogue.writers()), rescan_reason="as a test says")


@pytest.mark.host_independent
def test_a_transaction_that_has_no_end_holds_up_no_look(live: Host, written_uncaptured: None) -> None:
    """As a forgotten prepared transaction is, of this database or of another: it writes to no table of the host's. Nor
    does a VACUUM, whose lock this is."""
    with locked("SELECT pg_current_xact_id()"), locked(f"LOCK {_table(live)} IN SHARE UPDATE EXCLUSIVE MODE"):
        _request_a_look()
        tick()
        flush_all()
        assert_exact(live)


@pytest.mark.host_independent
def test_a_writer_who_began_later_holds_up_no_look(live: Host, written_uncaptured: None) -> None:
    """Or a busy host would never be looked at."""
    with locked(_write(live)):
        tick()
        assert the_installation().rescan_waits_for is None


@pytest.mark.host_independent
def test_a_look_that_another_cluster_asked_for(live: Host, written_uncaptured: None) -> None:
    """A dump of it was restored here, where nobody has these ids."""
    Installation.objects.update(rescan_waits_for=["9999/9", "-1/9999999"])
    with locked(_write(live)):
        tick()
        flush_all()
        assert_exact(live)


def _write(live: Host) -> str:
    """SQL that locks the runs as a writer does, and has a transaction id."""
    return f"DELETE FROM {_table(live)} WHERE pg_current_xact_id() IS NULL"


def _table(live: Host) -> str:
    return str(connection.ops.quote_name(live.run_model._meta.db_table))
