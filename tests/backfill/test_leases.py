"""Who works on which chunk: claims, leases that expire, and workers that come back from the dead."""

from __future__ import annotations

import time

import pytest
from django.db import connection
from django.db.models.functions import Now

from backfill import leases, rows, runner, spans, work
from backfill.leases import LeaseLost
from tests.backfill.history import (
    History,
    assert_complete,
    carried_out,
    chunks,
    expire,
    fill_first_batch,
    planned,
)
from tests.exactness.stepping import locked
from tests.oracle import stored
from workflows_tasks import projection


def test_no_more_chunks_are_claimed_than_may_be(history: History) -> None:
    run = planned(parallel=2)
    held = [leases.claim(run.pk), leases.claim(run.pk)]
    assert None not in held
    assert leases.claim(run.pk) is None
    runner.set_parallel(run.pk, 3, actor="a test")
    assert leases.claim(run.pk) is not None
    assert leases.claim(run.pk) is None


def test_two_workers_never_have_the_same_chunk(history: History) -> None:
    run = planned(parallel=50)
    held = []
    while (lease := leases.claim(run.pk)) is not None:
        held.append(lease.chunk.pk)
    assert len(held) == len(set(held)) == len(chunks(run, kind="fill"))


def test_a_worker_that_stands_still_at_its_commit_holds_nobody_up(history: History) -> None:
    """Its lease has expired, and its open transaction has the chunk's row: others take other chunks meanwhile."""
    run = planned()
    zombie = leases.claim(run.pk)
    assert zombie is not None
    expire(zombie)
    with locked("SELECT FROM backfill_chunk WHERE id = %s FOR UPDATE", zombie.chunk.pk):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        other = leases.claim(run.pk)
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert other is not None
    assert other.chunk.pk != zombie.chunk.pk


def test_a_zombie_commits_nothing(history: History) -> None:
    """Its lease has expired and another has the chunk: rows, position and counts are rolled back together."""
    run = planned()
    zombie = leases.claim(run.pk)
    assert zombie is not None
    expire(zombie)
    assert leases.claim(run.pk) is not None
    with pytest.raises(LeaseLost):
        fill_first_batch(zombie)
    assert stored() == []


def test_a_zombie_commits_nothing_even_if_nobody_took_over(history: History) -> None:
    run = planned()
    zombie = leases.claim(run.pk)
    assert zombie is not None
    expire(zombie)
    with pytest.raises(LeaseLost):
        fill_first_batch(zombie)
    assert stored() == []
    for end in (leases.release, lambda lease: leases.fail(lease, "why"), lambda lease: leases.finish(lease, batch=1)):
        with pytest.raises(LeaseLost):
            end(zombie)


def test_what_was_committed_is_not_done_again(history: History) -> None:
    """A worker dies after some batches; the chunk goes on where it was, and its counts add up."""
    run = planned(parallel=1)
    lease = leases.claim(run.pk)
    assert lease is not None
    fill_first_batch(lease)
    done = chunks(run, pk=lease.chunk.pk)[0].passed
    assert 0 < done < lease.chunk.planned
    expire(lease)
    again = leases.claim(run.pk)
    assert again is not None
    assert again.chunk.pk == lease.chunk.pk
    assert sum(step.runs for step in spans.loaded(again.chunk.steps)) == lease.chunk.planned - done
    leases.release(again)
    assert_complete(history, carried_out(run))


def test_progress_reaches_all_and_never_more_while_runs_come_and_go(history: History) -> None:
    run = planned(parallel=1, chunk_size=400)
    seen = []
    while runner.get(run.pk).status == "running":
        lease = leases.claim(run.pk)
        if lease is None:
            break
        history.add(3, history.heavy, *history.light[:2])
        doomed = history.host.run_model._base_manager.order_by("pk").first()
        doomed.delete()
        fill_first_batch(lease)
        leases.release(lease)
        seen.append(runner.status(run.pk).fill)
        if chunks(run, pk=lease.chunk.pk)[0].steps == []:
            work._attempt(leases.claim(run.pk), time.monotonic() + 60)  # type: ignore[arg-type]
    assert all(phase.done <= phase.planned for phase in seen)
    assert [phase.done for phase in seen] == sorted(phase.done for phase in seen)
    fill = runner.status(run.pk).fill
    assert (fill.done, fill.percent) == (fill.planned, 100.0)


def test_who_looks_at_a_large_chunk_has_the_time_for_it(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one statement, during which nothing is heard of the worker."""
    monkeypatch.setattr(leases, "SLOWEST", 1)
    run = planned(parallel=1, chunk_size=400)
    lease = leases.claim(run.pk)
    assert lease is not None
    left_s = []

    def look(_: object) -> list[projection.StaleRow]:
        (chunk,) = rows.chunks().filter(pk=lease.chunk.pk).annotate(now=Now())
        left_s.append((chunk.lease_until - chunk.now).total_seconds())
        return []

    monkeypatch.setattr(projection, "stale_in_range", look)
    assert work._attempt(lease, time.monotonic() + 60)
    assert left_s[0] > lease.chunk.planned == history.runs


def test_a_worker_whose_lease_is_over_does_not_look(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the chunk now will, and at all of it."""
    lease = leases.claim(planned(parallel=1).pk)
    assert lease is not None
    expire(lease)
    monkeypatch.setattr(projection, "stale_in_range", lambda _: pytest.fail("it looked"))
    with pytest.raises(LeaseLost):
        work._Attempt(lease, time.monotonic() + 60)._look()
