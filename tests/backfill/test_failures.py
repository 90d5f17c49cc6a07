"""What cannot be filled: it is tried again, halved, named, and holds nobody up; too much of it pauses the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from backfill import course, leases, rows, runner, work
from tests.backfill.history import (
    History,
    assert_complete,
    carried_out,
    chunks,
    expire,
    fill_first_batch,
    planned,
    started,
)
from tests.exactness.stepping import locked
from tests.oracle import flush_all, stored
from workflows_tasks import projection
from workflows_tasks.ids import encode
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql.fragments import Workspaces

TABLE = WorkspaceRecentWorkflow._meta.db_table


@contextmanager
def refused(runs: list[Any]) -> Iterator[None]:
    """PostgreSQL refuses rows that name one of these runs, as it refuses a value that is too long for an index."""
    kind = "text" if isinstance(runs[0], str) else ("uuid" if hasattr(runs[0], "hex") else "bigint")
    keys = ", ".join(f"'{run}'::{kind}" for run in runs)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT refused CHECK (last_run_id NOT IN ({keys})) NOT VALID")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT refused")


def test_one_bad_run_is_named_and_holds_nobody_up(history: History) -> None:
    bad = history.newest(history.light[4])
    with refused([bad]):
        progress = carried_out(started())
    assert progress.run.status == "failed"
    (failure,) = progress.failures
    assert encode(bad) in failure.runs
    assert len(failure.runs) <= course.FLOOR
    assert "refused" in failure.error
    assert "1 chunks could not be filled" in progress.run.error
    named = set(failure.runs)
    missing = {encode(row.run) for row in expected_rows(history)} - {encode(row.run) for row in stored()}
    assert missing <= named, "more is missing than what is named"
    assert progress.fill.done + sum(chunk.planned - chunk.passed for chunk in chunks(progress.run, status="failed")) \
        == progress.fill.planned == history.runs  # fmt: skip


def expected_rows(history: History) -> list[Any]:
    from tests.oracle import expected

    return expected(history.host)


def test_what_failed_is_taken_up_again_when_its_cause_is_mended(history: History) -> None:
    bad = history.newest(history.heavy)
    with refused([bad]):
        run = carried_out(started()).run
    assert run.status == "failed"
    assert runner.retry(run.pk, actor="a test").status == "running"
    assert_complete(history, carried_out(run))


def test_a_chunk_is_halved_only_after_three_failures_in_a_row(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(parallel=1, chunk_size=400)
    failing = _failing(monkeypatch, times=2)
    progress = carried_out(run)
    assert failing == []
    assert progress.fill.chunks == {"done": 1}
    assert_complete(history, progress)
    again = planned(parallel=1, chunk_size=400)
    _failing(monkeypatch, times=3)
    progress = carried_out(again)
    assert progress.fill.chunks == {"done": 2, "split": 1}, "nothing was filled before, so nobody looks at that"
    assert_complete(history, progress)


def test_what_a_chunk_had_filled_before_it_failed_is_looked_at(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is deleted between a batch's snapshot and its commit; then the chunk fails, and never comes to its end."""
    history.add(60, history.heavy)
    run = planned(parallel=1, chunk_size=400)
    lease = leases.claim(run.pk)
    assert lease is not None
    fill_first_batch(lease)
    gone = stored()[0]
    for model in (history.host.run_model, *history.host.run_model._meta.parents):
        runs = model._base_manager.filter(pk=gone.run)
        runs._raw_delete(runs.db)
    for _ in range(course.ATTEMPTS):
        leases.fail(lease, "refused")
        rows.chunks().update(retry_at=None)
        lease = leases.claim(run.pk)
        assert lease is not None
    while runner.get(run.pk).status == "running" and lease is not None:  # no further: verifying would find it, too
        work._attempt(lease, time.monotonic() + 60)
        lease = leases.claim(run.pk) if runner.get(run.pk).status == "running" else None
    assert runner.status(run.pk).fill.chunks == {"done": 3, "split": 1}
    flush_all()
    assert gone.run not in {row.run for row in stored()}
    assert sum(chunk.planned for chunk in chunks(run, kind="fill")) == runner.status(run.pk).fill.done


def _failing(monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[int]:
    """The next fills fail as if PostgreSQL had refused them; returns what is still to fail."""
    left = list(range(times))
    monkeypatch.undo()
    monkeypatch.setattr(course, "RETRY_S", 0.0)
    real: Callable[..., int] = projection.raise_history

    def fill(workspaces: Workspaces, **kwargs: Any) -> int:
        if left:
            left.pop()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        return real(workspaces, **kwargs)

    monkeypatch.setattr(projection, "raise_history", fill)
    return left


def test_more_than_a_fifth_of_the_last_20_failing_pauses_it_and_says_why(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(chunk_size=40)
    failing = _failing(monkeypatch, times=100)
    progress = carried_out(run)
    assert progress.run.status == "paused"
    assert len(failing) == 86, "four chunks failed three times, the fifth twice"
    assert progress.fill.done == 0
    why = "5 of the last 5 chunks failed, and again when tried again; the last one: DataError: division by zero"
    assert progress.run.error.startswith(why)
    assert [e.what for e in progress.run.events.all()][-2:] == ["pause", "paused"]
    failing.clear()
    runner.resume(run.pk, actor="a test")
    assert_complete(history, carried_out(run))


def test_a_worker_that_dies_over_a_chunk_again_and_again_is_a_failure_of_the_chunk(history: History) -> None:
    run = planned(parallel=1, chunk_size=400)
    for _ in range(3):
        lease = leases.claim(run.pk)
        assert lease is not None
        expire(lease)
    assert leases.claim(run.pk) is not None
    assert runner.status(run.pk).fill.chunks == {"pending": 1, "running": 1, "split": 1}


def test_a_lock_that_is_not_had_is_tried_again_and_never_halved(
    history: History, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of the table is locked for longer than a statement waits for it."""
    projection.fill()
    newest = history.saved(history.heavy)
    key = history.key(history.heavy)
    configure(BACKFILL_STATEMENT_TIMEOUT_S=0.4, BACKFILL_TARGET_S=0.2)
    run = planned(workspaces=Workspaces(key, key), chunk_size=400)
    monkeypatch.setattr(course, "RETRY_S", 3_600.0)
    with locked(f"SELECT FROM {TABLE} WHERE workspace_id = %s FOR UPDATE", key):
        assert work.work(run.pk) is False
    (chunk,) = chunks(run, kind="fill")
    assert (chunk.status, chunk.failures) == ("pending", 0)
    assert "lock timeout" in chunk.error
    assert runner.get(run.pk).outcomes == "", "once is nothing yet"
    assert work.work(run.pk) is False, "not before its time"
    with locked(f"SELECT FROM {TABLE} WHERE workspace_id = %s FOR UPDATE", key):
        for _ in range(3):  # at first it may come a little further
            rows.chunks(run).update(retry_at=None)
            assert work.work(run.pk) is False
    assert set(runner.get(run.pk).outcomes) == {"F"}
    rows.chunks(run).update(retry_at=None)
    assert carried_out(run).run.status == "succeeded"
    flush_all()
    assert newest.pk in {row.run for row in stored()}


def test_a_batch_that_takes_too_long_is_a_tenth_next(
    history: History, configure: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that gives up by its time is no failure as long as it can be made smaller."""
    configure(BACKFILL_STATEMENT_TIMEOUT_S=0.3, BACKFILL_TARGET_S=0.2)
    run = planned(chunk_size=4_000, parallel=1)
    real: Callable[..., int] = projection.raise_history
    asked: list[int] = []

    def fill(workspaces: Workspaces, **kwargs: Any) -> int:
        asked.append(1)
        if len(asked) == 1:
            with connection.cursor() as cursor:
                cursor.execute("BEGIN; SET LOCAL statement_timeout = 10; SELECT pg_sleep(1)")
        return real(workspaces, **kwargs)

    def fill_and_roll_back(workspaces: Workspaces, **kwargs: Any) -> int:
        try:
            return fill(workspaces, **kwargs)
        finally:
            if len(asked) == 1:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")

    monkeypatch.setattr(projection, "raise_history", fill_and_roll_back)
    progress = carried_out(run)
    assert "took too long" in caplog.text
    assert not [event for event in progress.run.events.all() if event.what == "failure"]
    assert_complete(history, progress)
