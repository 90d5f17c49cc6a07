"""Who works on which chunk: claims, leases that expire, and workers that come back from the dead."""

from __future__ import annotations

import pytest

from backfill import control, leases, ranges, worker
from backfill.leases import LeaseLost
from tests.backfill.given import (
    History,
    assert_complete,
    carry_out,
    chunks,
    claim_chunk,
    expire,
    fill_batch,
    plan_backfill,
)
from tests.oracle import stored
from tests.sessions import execute, locked

pytestmark = pytest.mark.host_independent


def test_no_more_chunks_are_claimed_than_may_be_and_none_twice(history: History) -> None:
    backfill = plan_backfill(concurrency=2)
    held = [claim_chunk(backfill).chunk.pk, claim_chunk(backfill).chunk.pk]
    assert leases.claim(backfill.pk) is None
    control.set_concurrency(backfill.pk, 3, actor="a test")
    held.append(claim_chunk(backfill).chunk.pk)
    assert leases.claim(backfill.pk) is None
    control.set_concurrency(backfill.pk, 50, actor="a test")
    while (lease := leases.claim(backfill.pk)) is not None:
        held.append(lease.chunk.pk)
    assert len(held) == len(set(held)) == len(chunks(backfill, kind="fill"))


def test_a_chunk_is_open_from_its_claim_to_its_end(history: History) -> None:
    backfill = plan_backfill()
    lease = claim_chunk(backfill)
    assert [chunk.pk for chunk in chunks(backfill, is_open=True)] == [lease.chunk.pk], "before the first write"
    fill_batch(lease, steps=100)
    assert chunks(backfill, is_open=True), "until it is looked over"
    leases.finish(lease)
    assert not chunks(backfill, is_open=True)


def test_a_worker_that_stands_still_at_its_commit_holds_nobody_up(history: History) -> None:
    """Its lease has expired, and its open transaction has the chunk's row: others take other chunks meanwhile."""
    backfill = plan_backfill()
    zombie = claim_chunk(backfill)
    expire(zombie)
    with locked("SELECT FROM backfill_chunk WHERE id = %s FOR UPDATE", zombie.chunk.pk):
        execute("SET lock_timeout = '5s'")
        other = claim_chunk(backfill)
        execute("RESET lock_timeout")
    assert other.chunk.pk != zombie.chunk.pk


@pytest.mark.parametrize("another_took_over", [True, False])
def test_a_zombie_commits_nothing(history: History, another_took_over: bool) -> None:
    """Its lease has expired: rows, position and counts are rolled back together, and it ends nothing."""
    backfill = plan_backfill(concurrency=1)
    zombie = claim_chunk(backfill)
    expire(zombie)
    if another_took_over:
        assert claim_chunk(backfill).chunk.pk == zombie.chunk.pk
    with pytest.raises(LeaseLost):
        fill_batch(zombie)
    assert stored() == []
    for end in (leases.release, lambda lease: leases.fail(lease, "why"), leases.finish):
        with pytest.raises(LeaseLost):
            end(zombie)
    assert all(chunk.status != "done" for chunk in chunks(backfill))


def test_what_was_committed_is_not_done_again(history: History) -> None:
    """A worker dies after a batch; the chunk goes on where it was, and its counts add up."""
    backfill = plan_backfill(concurrency=1)
    lease = claim_chunk(backfill)
    fill_batch(lease)
    done = chunks(backfill, pk=lease.chunk.pk)[0].passed
    assert 0 < done < lease.chunk.planned
    expire(lease)
    again = claim_chunk(backfill)
    assert again.chunk.pk == lease.chunk.pk
    assert sum(step.runs for step in ranges.load(again.chunk.steps)) == lease.chunk.planned - done
    leases.release(again)
    assert_complete(history, carry_out(backfill))


def test_progress_reaches_all_and_never_more_while_runs_come_and_go(history: History) -> None:
    backfill = plan_backfill(concurrency=1, chunk_size=400)
    seen = []
    while control.get(backfill.pk).status == "running":
        lease = claim_chunk(backfill)
        if not lease.chunk.steps:
            assert worker._attempt(lease, 1e12)
            break
        history.add(3, history.heavy, *history.light[:2])
        history.host.run_model._base_manager.order_by("pk")[0].delete()
        fill_batch(lease)
        leases.release(lease)
        seen.append(control.status(backfill.pk).fill)
    assert all(phase.done <= phase.planned for phase in seen)
    assert [phase.done for phase in seen] == sorted(phase.done for phase in seen)
    fill = control.status(backfill.pk).fill
    assert (fill.done, fill.percent) == (fill.planned, 100.0)


def test_a_comparison_of_a_large_workspace_has_the_time_for_it(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one statement, during which nothing is heard of the worker."""
    monkeypatch.setattr(leases, "SLOWEST", 1)
    backfill = plan_backfill(chunk_size=400)
    (verify,) = chunks(backfill, kind="verify")
    assert leases.lease_s(verify) > 130
    (fill,) = chunks(backfill, kind="fill")
    assert leases.lease_s(fill) == 30
