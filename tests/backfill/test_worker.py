"""A worker's loop and the tick, in this process: it fills, verifies, waits for its turn, and says how far it is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backfill import control, leases, planner, tasks, worker
from tests import broker
from tests.backfill.given import (
    TABLE,
    History,
    assert_complete,
    carry_out,
    claim_chunk,
    fill_all,
    plan_backfill,
    start_backfill,
)
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import flush_all, stored
from tests.sessions import locked, query
from tests.threads import beside, until_waiting
from workflows_tasks import history as package
from workflows_tasks.history import Range
from workflows_tasks.models import WorkspaceRecentWorkflow


def test_all_of_history_is_filled_and_verified_and_a_second_backfill_writes_nothing(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "backfill")
    progress = carry_out(start_backfill())
    assert len(assert_complete(history, progress)) > 50
    assert progress.fill.planned == progress.verify.planned == history.runs
    assert progress.fill.rows >= len(stored())
    said = re.findall(rf"backfill={progress.backfill.pk} (\w+) by=", caplog.text)
    assert said == ["start", "planning", "planned", "verifying", "succeeded"]
    before = writes()
    again = carry_out(start_backfill(chunk_size=17))
    assert_complete(history, again)
    assert again.fill.rows == 0
    assert writes() == before, "the server's own counters"
    assert sum(before) > 0


def writes() -> tuple[int, int, int]:
    """Inserts, updates and deletes of the table since it was made."""
    query("SELECT pg_stat_force_next_flush()")
    ((inserts, updates, deletes),) = query(
        "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = %s", [TABLE]
    )
    return inserts, updates, deletes


def test_only_a_range_of_workspaces(history: History) -> None:
    assert carry_out(start_backfill(history.only(history.light[0]))).backfill.status == "succeeded"
    assert {row.workspace for row in stored()} == {history.host.workspace_key(history.light[0])}


@pytest.mark.host_independent
def test_nothing_to_fill_succeeds(live: Host) -> None:
    assert carry_out(start_backfill()).backfill.status == "succeeded"
    assert control.tick() == (0, 0)
    assert worker.work(12345) is False


@pytest.mark.host_independent
def test_a_batch_is_one_transaction_with_its_chunk(history: History) -> None:
    backfill = plan_backfill(concurrency=1)
    with CaptureQueriesContext(connection) as captured:
        worker.work(backfill.pk)
    asked = [query["sql"] for query in captured]
    fills = [n for n, sql in enumerate(asked) if f'INSERT INTO "{TABLE}"' in sql]
    assert fills
    for n in fills:
        assert asked[n + 1].startswith('UPDATE "backfill_chunk"')
        assert asked[n + 2] == "COMMIT"


def test_what_is_saved_and_deleted_meanwhile_is_not_undone(history: History) -> None:
    newest, gone = history.save_run(history.heavy), history.save_run(history.light[0])
    flush_all()
    gone.delete()
    rows = assert_complete(history, carry_out(start_backfill()))
    assert newest.pk in {row.run for row in rows}


@pytest.mark.host_independent
def test_paused_in_the_middle_no_batch_is_filled_twice(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    backfill = plan_backfill()
    real, batches = package.fill, []

    def fill(among: Range, **kwargs: Any) -> int:
        written = real(among, **kwargs)
        batches.append(among)
        if len(batches) == 3:
            control.pause(backfill.pk, actor="a test")
        return written

    monkeypatch.setattr(package, "fill", fill)
    worker.work(backfill.pk)
    assert control.get(backfill.pk).status == "paused"
    assert len(batches) == 3
    assert leases.claim(backfill.pk) is None
    assert control.status(backfill.pk).fill.done > 0
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))
    assert len(set(batches)) == len(batches)


def test_drift_that_verifying_finds_is_logged_counted_and_flushed(history: History) -> None:
    backfill = plan_backfill()
    fill_all(backfill)
    assert control.get(backfill.pk).status == "verifying"
    WorkspaceRecentWorkflow.objects.filter(uid="")[0].delete()
    progress = carry_out(backfill)
    assert progress.verify.drift == 1
    assert_complete(history, progress)


@pytest.mark.host_independent
def test_what_waits_or_cannot_be_compared(history: History, configure: Configure) -> None:
    """A saved run that nobody flushed is no drift. A comparison that fails five times fails the backfill."""
    backfill = plan_backfill()
    fill_all(backfill)
    history.save_run(history.heavy)
    configure(COMPARE_TIMEOUT_S=0.001)
    progress = carry_out(backfill)
    assert progress.backfill.status == "failed"
    assert "could not be verified; the first: " in progress.backfill.error
    assert {failure.kind for failure in progress.failures} == {"verify"}
    configure(COMPARE_TIMEOUT_S=10.0)
    assert control.resume(backfill.pk, actor="a test").status == "verifying"
    progress = carry_out(backfill)
    assert progress.verify.drift == 0
    assert_complete(history, progress)


@pytest.mark.host_independent
def test_a_backfill_waits_for_the_one_before_it(history: History) -> None:
    first, second = start_backfill(), start_backfill()
    assert control.tick() == (first.pk, 1)
    assert control.status(second.pk).reasons == [f"waits for backfill {first.pk}, which is enqueued"]
    assert_complete(history, carry_out(first))
    assert control.tick()[0] == second.pk


@pytest.mark.host_independent
def test_a_message_has_time_limits_of_its_own(
    history: History, celery_app_in_process: Celery, backfill_queue: str
) -> None:
    """Planning may take longer than the soft limit that a host has for its own tasks."""
    tasks.ask(plan_backfill().pk)
    (message,) = broker.take_all(celery_app_in_process, backfill_queue)
    assert message.headers["timelimit"] == [worker.SLICE_S + planner.TIMEOUT_S] * 2


@pytest.mark.host_independent
def test_two_ticks_at_once_ask_once_and_for_no_more_than_may_work(history: History, configure: Configure) -> None:
    configure(TICK_PERIOD_S=29.0)
    backfill = plan_backfill(concurrency=4)
    claim_chunk(backfill)
    with beside(2) as start:
        with locked("SELECT FROM backfill_backfill WHERE id = %s FOR UPDATE", backfill.pk):
            ticks = [start(control.tick) for _ in range(2)]
            until_waiting(2)
        assert sorted(tick.result(20) for tick in ticks) == [(0, 0), (backfill.pk, 3)]
    assert control.tick() == (0, 0)


@pytest.mark.host_independent
def test_a_slice_that_is_over_before_it_begins_brings_a_batch_and_finds_its_end(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the database is slow to answer: each message counts, and one that gets no chunk asks for no other."""
    monkeypatch.setattr(worker, "SLICE_S", 1e-9)
    backfill = plan_backfill(history.only(history.heavy), concurrency=1, chunk_size=400)
    asked = []
    while control.get(backfill.pk).status == "running":
        before = control.status(backfill.pk).fill.done
        asked.append(worker.work(backfill.pk))
        assert control.status(backfill.pk).fill.done > before
    assert all(asked)
    held = claim_chunk(backfill)
    assert worker.work(backfill.pk) is False
    leases.release(held)
    assert carry_out(backfill).backfill.status == "succeeded"
