"""What cannot be filled is tried again, narrowed down, named, and holds nobody up; too much of it pauses a backfill."""

from __future__ import annotations

import re
from typing import Any

import pytest

from backfill import control, leases, lifecycle, models, worker
from tests.backfill.given import (
    TABLE,
    History,
    assert_complete,
    carry_out,
    chunks,
    claim_chunk,
    expire,
    plan_backfill,
    refused,
    refusing,
    start_backfill,
)
from tests.oracle import expected, flush_all, stored
from tests.sessions import locked, query, session
from workflows_tasks import history as package
from workflows_tasks.history import EVERYWHERE


def test_one_bad_run_is_named_holds_nobody_up_and_is_taken_up_again(history: History) -> None:
    bad = history.newest(history.light[4])
    with refused(bad):
        progress = carry_out(start_backfill())
        assert progress.backfill.status == "failed"
        (failure,) = progress.failures
        assert failure.refused_runs == [str(bad)]
        assert "refused, whoever asks" in failure.error
        assert progress.backfill.error.startswith("1 chunk could not be filled; the first: ")
        assert {str(row.run) for row in expected(history.host)} - {str(row.run) for row in stored()} == {str(bad)}
        not_done = sum(chunk.planned - chunk.passed for chunk in chunks(progress.backfill, status="failed"))
        assert progress.fill.done + not_done == progress.fill.planned == history.runs
        assert {d.state for d in package.compare(EVERYWHERE)} == {"unfilled"}, "a chunk that failed explains it"
    assert control.resume(progress.backfill.pk, actor="a test").status == "running"
    assert_complete(history, carry_out(progress.backfill))


@pytest.mark.host_independent
def test_every_refused_run_is_named_and_the_rest_of_its_chunk_is_filled(history: History) -> None:
    bad = [history.newest(history.light[0]), history.newest(history.light[1])]
    with refused(*bad):
        progress = carry_out(start_backfill(chunk_size=4_000))
    (failure,) = progress.failures
    assert failure.refused_runs == [str(run) for run in bad]
    assert progress.fill.done == progress.fill.planned - 2
    control.resume(progress.backfill.pk, actor="a test")
    assert_complete(history, carry_out(progress.backfill))


@pytest.mark.host_independent
def test_five_failures_of_a_chunk_in_a_row_pause_it_and_say_why(history: History) -> None:
    backfill = start_backfill()
    with refusing("RAISE EXCEPTION 'refused, whatever it is';"):
        progress = carry_out(backfill)
    assert (progress.backfill.status, progress.fill.done) == ("paused", 0)
    why = r"chunk \d+: 6 failures in a row, 5 refused; the last: \w+: refused, whatever it is"
    assert re.match(why, progress.backfill.error)
    (chunk,) = chunks(backfill, failures__gt=1)
    assert len(chunk.refused) == 5
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_many_refused_runs_of_a_chunk_pause_it_though_others_go_through(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "MOST_REFUSED", 3)
    with refused(*(history.newest(workspace) for workspace in history.light[::2])):
        backfill = carry_out(start_backfill(chunk_size=4_000)).backfill
    (chunk,) = chunks(backfill, kind="fill")
    assert (backfill.status, len(chunk.refused)) == ("paused", 3)
    assert " failures in a row, 3 refused; the last: " in backfill.error
    assert chunk.passed > 0
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_workers_that_die_over_a_chunk_again_and_again_pause_it(history: History) -> None:
    backfill = plan_backfill(concurrency=1, chunk_size=400)
    for _ in range(5):
        expire(claim_chunk(backfill))
    assert leases.claim(backfill.pk) is None
    now = control.get(backfill.pk)
    assert now.status == "paused"
    assert "5 failures in a row, 0 refused; the last: its worker" in now.error
    control.resume(backfill.pk, actor="a test")
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_a_lock_that_is_not_had_is_tried_again_later_and_nothing_is_refused(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the table are locked for longer than a statement waits for them."""
    package.fill(EVERYWHERE)
    newest = history.save_run(history.heavy)
    monkeypatch.setattr(worker, "STATEMENT_TIMEOUT_S", 0.4)
    backfill = plan_backfill(history.only(history.heavy), chunk_size=400)
    rows_of_it = f'SELECT FROM "{TABLE}" WHERE workspace_id::text = %s FOR UPDATE'
    query(f"UPDATE \"{TABLE}\" SET last_used_at = last_used_at - interval '1 day' RETURNING 1")
    monkeypatch.setattr(lifecycle, "RETRY_S", 3_600.0)
    with locked(rows_of_it, history.text(history.heavy)):
        assert worker.work(backfill.pk) is False
        (chunk,) = chunks(backfill, kind="fill")
        assert (chunk.status, chunk.failures, chunk.refused) == ("pending", 1, [])
        assert "lock timeout" in chunk.error
        assert worker.work(backfill.pk) is False, "not before its time"
        assert len(control.status(backfill.pk).retrying) == 1
        for status in ("running", "running", "running", "paused"):
            models.chunks(backfill).update(retry_at=None)
            assert worker.work(backfill.pk) is False
            assert control.get(backfill.pk).status == status
    control.resume(backfill.pk, actor="a test")
    assert carry_out(backfill).backfill.status == "succeeded"
    flush_all()
    assert newest.pk in {row.run for row in stored()}


@pytest.mark.host_independent
def test_a_deadlock_is_left_to_the_chunks_retry(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends one of two that wait for each other; where it is the fill, the chunk is tried again."""
    with refusing("RAISE EXCEPTION USING ERRCODE = '40P01';"):
        backfill = plan_backfill(chunk_size=400)
        monkeypatch.setattr(lifecycle, "RETRY_S", 3_600.0)
        worker.work(backfill.pk)
    (chunk,) = chunks(backfill, kind="fill")
    assert (chunk.status, chunk.failures, chunk.refused) == ("pending", 1, [])
    models.chunks(backfill).update(retry_at=None)
    assert_complete(history, carry_out(backfill))


@pytest.mark.host_independent
def test_a_batch_that_takes_too_long_is_a_tenth_next(
    history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that is ended by its time limit is no failure as long as it can be made smaller."""
    caplog.set_level("INFO", "backfill")
    monkeypatch.setattr(worker, "STATEMENT_TIMEOUT_S", 1.0)
    backfill = plan_backfill(chunk_size=4_000, concurrency=1)
    slow = "IF (SELECT count(*) FROM written) > 40 THEN PERFORM pg_sleep(30); END IF;"
    when = "AFTER INSERT"
    with refusing(slow, when=when, each="REFERENCING NEW TABLE AS written FOR EACH STATEMENT"):
        progress = carry_out(backfill)
    assert "5 runs next, after 52: OperationalError: canceling statement due to statement timeout" in caplog.text
    assert "failure" not in caplog.text
    assert_complete(history, progress)


@pytest.mark.host_independent
def test_a_database_that_goes_away_in_the_middle(
    history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker's session is ended by the server between two batches; the next attempt goes on."""
    caplog.set_level("INFO", "backfill")
    backfill = plan_backfill(concurrency=1, chunk_size=60)
    real = package.fill
    batches: list[Any] = []

    def fill(*args: Any, **kwargs: Any) -> int:
        batches.append(args)
        if len(batches) == 3:
            ((own,),) = query("SELECT pg_backend_pid()")
            with session() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [own])
        return real(*args, **kwargs)

    monkeypatch.setattr(package, "fill", fill)
    progress = carry_out(backfill)
    assert caplog.text.count(f"backfill={backfill.pk} failure by=backfill chunk ") == 1
    assert_complete(history, progress)
