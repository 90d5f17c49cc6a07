"""A worker's loop, in this process: it fills, verifies, holds its lease, and says how far it is."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backfill import leases, runner, tasks, work
from tests import broker
from tests.backfill.history import (
    History,
    assert_complete,
    carried_out,
    chunks,
    fill_first_batch,
    planned,
    started,
)
from tests.conftest import Configure
from tests.exactness.stepping import Actor, locked
from tests.hosts.adapter import Host, moment
from tests.oracle import stored
from workflows_tasks import conf, inbox, projection
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql.fragments import Workspaces


def test_all_of_history_is_filled_and_verified(history: History) -> None:
    progress = carried_out(started())
    assert len(assert_complete(history, progress)) > 50
    assert progress.fill.planned == progress.verify.planned == history.runs
    assert progress.fill.rows >= len(stored())
    events = [event.what for event in progress.run.events.all()]
    assert events == ["start", "planning", "planned", "verifying", "succeeded"]


def test_a_second_run_writes_nothing(history: History) -> None:
    """The server's own counters of the table's inserts, updates and deletes do not move."""
    assert_complete(history, carried_out(started()))
    before = writes()
    progress = carried_out(started(chunk_size=17))
    assert_complete(history, progress)
    assert progress.fill.rows == 0
    assert writes() == before
    assert sum(before) > 0


def writes() -> tuple[int, int, int]:
    """Inserts, updates and deletes of the table since it was made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = %s",
            [WorkspaceRecentWorkflow._meta.db_table],
        )
        found: tuple[int, int, int] = cursor.fetchone()
        return found


def test_only_a_range_of_workspaces(history: History) -> None:
    key = history.key(history.light[0])
    progress = carried_out(started(workspaces=Workspaces(key, key)))
    assert progress.run.status == "succeeded"
    assert {row.workspace for row in stored()} == {key}


def test_only_since_a_moment(history: History) -> None:
    """Older runs are left out, and that they are missing is no difference."""
    progress = carried_out(started(since=moment(5)))
    assert progress.run.status == "succeeded"
    assert progress.verify.drift == 0
    assert stored()
    assert all(row.used_at >= moment(5) for row in stored())


def test_nothing_to_fill_succeeds(live: Host) -> None:
    assert carried_out(started()).run.status == "succeeded"


def test_a_batch_is_one_transaction_with_its_chunk(history: History) -> None:
    run = planned()
    with CaptureQueriesContext(connection) as captured:
        work.work(run.pk)
    asked = [query["sql"] for query in captured]
    fills = [n for n, sql in enumerate(asked) if sql.startswith("WITH filled")]
    assert fills
    for n in fills:
        assert asked[n + 1].startswith('UPDATE "backfill_chunk"')
        assert asked[n + 2] == "COMMIT"


def test_a_saved_run_meanwhile_is_not_undone(history: History) -> None:
    newest = history.saved(history.heavy)
    progress = carried_out(started())
    assert newest.pk in {row.run for row in assert_complete(history, progress)}


def test_a_run_deleted_while_it_is_filled_is_announced(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the fill's snapshot, and gone before the look: nobody else would notice."""
    newest = history.saved(history.heavy)
    from tests.oracle import flush_all

    flush_all()
    real = projection.stale_in_range
    deleted: list[Any] = []

    def look(workspaces: Workspaces) -> list[projection.StaleRow]:
        if not deleted:
            deleted.append(newest.pk)
            for model in (history.host.run_model, *history.host.run_model._meta.parents):
                gone = model._base_manager.filter(pk=newest.pk)
                gone._raw_delete(gone.db)
        return real(workspaces)

    monkeypatch.setattr(projection, "stale_in_range", look)
    run = planned(workspaces=Workspaces(history.key(history.heavy), history.key(history.heavy)))
    lease = leases.claim(run.pk)
    while lease is not None:  # the fills alone: verifying would find it as well
        work._attempt(lease, time.monotonic() + 60)
        lease = leases.claim(run.pk) if runner.get(run.pk).status == "running" else None
    assert deleted
    assert any(shard.pending for shard in inbox.status())
    flush_all()
    assert newest.pk not in {row.run for row in stored()}


def test_pausing_stops_before_the_next_batch_and_resuming_repeats_nothing(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(parallel=1)
    batches: list[Workspaces] = []
    real = projection.raise_history

    def fill(workspaces: Workspaces, **kwargs: Any) -> int:
        written = real(workspaces, **kwargs)
        batches.append(workspaces)
        if len(batches) == 3:
            runner.pause(run.pk, actor="a test")
        return written

    monkeypatch.setattr(projection, "raise_history", fill)
    work.work(run.pk)
    assert runner.get(run.pk).status == "paused"
    assert len(batches) == 3
    assert leases.claim(run.pk) is None
    before = runner.status(run.pk).fill.done
    assert before > 0
    runner.resume(run.pk, actor="a test")
    assert_complete(history, carried_out(runner.get(run.pk)))
    assert len(set(batches)) == len(batches), "a batch was filled twice"


def test_cancelled_it_keeps_what_it_filled(history: History) -> None:
    run = planned()
    lease = leases.claim(run.pk)
    assert lease is not None
    fill_first_batch(lease)
    assert runner.cancel(run.pk, actor="a test").status == "cancelling"
    work._attempt(lease, time.monotonic() + 60)
    assert runner.get(run.pk).status == "cancelled"
    assert stored()
    assert leases.claim(run.pk) is None


def test_verifying_finds_what_is_wrong_announces_it_and_looks_again(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.oracle import flush_all

    run = planned()
    while (lease := leases.claim(run.pk)) and lease.chunk.kind == "fill":
        work._attempt(lease, time.monotonic() + 60)
    if lease is not None:
        leases.release(lease)
    assert runner.get(run.pk).status == "verifying"
    WorkspaceRecentWorkflow.objects.filter(uid="").first().delete()
    for _ in range(20):
        if not runner.get(run.pk).is_open:
            break
        work.work(run.pk)
        flush_all()
    progress = runner.status(run.pk)
    assert progress.verify.drift == 1
    assert_complete(history, progress)


def test_a_difference_that_stays_fails_the_run(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody flushes what it announces."""
    run = planned()
    while (lease := leases.claim(run.pk)) and lease.chunk.kind == "fill":
        work._attempt(lease, time.monotonic() + 60)
    if lease is not None:
        leases.release(lease)
    row = WorkspaceRecentWorkflow.objects.filter(uid="").first()
    assert row is not None
    row.delete()
    monkeypatch.setattr(inbox, "where_is", lambda runs: {})  # as if Redis forgot it each time
    progress = carried_out(run)
    assert progress.run.status == "failed"
    assert "1 chunks could not be verified" in progress.run.error
    assert [failure.kind for failure in progress.failures] == ["verify"]
    monkeypatch.undo()
    from tests.oracle import flush_all

    flush_all()
    runner.retry(run.pk, actor="a test")
    assert_complete(history, carried_out(runner.get(run.pk)))


def test_a_backfill_waits_for_the_one_before_it(history: History) -> None:
    first, second = started(), started()
    assert runner.tick() == (first.pk, 1)
    assert runner.status(second.pk).reasons == [f"waits for backfill {first.pk}, which is enqueued"]
    assert_complete(history, carried_out(first))
    assert runner.tick()[0] == second.pk


def test_a_message_has_time_limits_of_its_own(
    history: History, celery_app_in_process: Celery, backfill_queue: str
) -> None:
    """Planning may take longer than the soft limit that a host has for its own tasks."""
    tasks.ask(planned().pk)
    (message,) = broker.take_all(celery_app_in_process, backfill_queue)
    settings = conf.settings()
    assert message.headers["timelimit"] == [settings.backfill_slice_s + settings.backfill_plan_timeout_s] * 2


def test_two_ticks_at_once_ask_once(history: History, configure: Configure) -> None:
    configure(BACKFILL_TICK_S=29.0)
    run = planned(parallel=3)
    with locked("SELECT FROM backfill_run WHERE id = %s FOR UPDATE", run.pk):
        ticks = [Actor(runner.tick).stands() for _ in range(2)]
        assert all(tick.waits for tick in ticks)
    assert sorted(tick.finish() for tick in ticks) == [(0, 0), (run.pk, 3)]
    assert runner.tick() == (0, 0)


def test_a_tick_asks_for_no_more_than_may_work(history: History, configure: Configure) -> None:
    run = planned(parallel=3)
    held = [leases.claim(run.pk), leases.claim(run.pk)]
    assert runner.tick() == (run.pk, 1)
    assert None not in held


def test_nothing_open_nothing_to_do(live: Host) -> None:
    assert runner.tick() == (0, 0)


def test_work_for_a_run_that_is_not_there(live: Host) -> None:
    assert work.work(12345) is False


def test_a_slice_that_is_over_before_it_begins_brings_a_batch_and_finds_its_end(
    history: History, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the database is slow to answer: each message counts, and one that gets no chunk asks for no other."""
    configure(BACKFILL_SLICE_S=1e-9)
    run = planned(parallel=1)
    asked = []
    while runner.get(run.pk).status == "running":
        before = runner.status(run.pk).fill.done
        asked.append(work.work(run.pk))
        assert runner.status(run.pk).fill.done > before
    assert all(asked)
    held = leases.claim(run.pk)
    assert work.work(run.pk) is False
    assert held is not None
    leases.release(held)
    assert_complete(history, carried_out(run))


def test_a_slice_ends_and_asks_for_another(
    history: History, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a chunk, which is given back as far as it is."""
    configure(BACKFILL_SLICE_S=0.05)
    run = planned(chunk_size=400)
    real = projection.raise_history

    def fill(workspaces: Workspaces, **kwargs: Any) -> int:
        written = real(workspaces, **kwargs)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.06)")
        return written

    monkeypatch.setattr(projection, "raise_history", fill)
    work.work(run.pk) and work.work(run.pk)
    done = runner.status(run.pk).fill.done
    assert 0 < done < history.runs
    assert [chunk.status for chunk in chunks(run, kind="fill")] == ["pending"]
    assert work.work(run.pk) is True
    monkeypatch.undo()
    configure(BACKFILL_SLICE_S=60.0)
    assert work.work(run.pk) is False
    assert_complete(history, runner.status(run.pk))
