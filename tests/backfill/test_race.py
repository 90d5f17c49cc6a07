"""A run goes between a fill's write and its commit, and a flush has already taken that change: nobody would notice.

The fill's chunk is open until all that it filled is looked over, however its worker ends. Until then the chunk explains
the difference; after that the change log does; and a flush puts it right.
"""

from __future__ import annotations

import pytest
from django.core.management import call_command

from backfill import control, leases, worker
from backfill.leases import Lease
from backfill.models import Backfill
from tests.backfill.given import (
    History,
    assert_complete,
    carry_out,
    chunks,
    claim_chunk,
    expire,
    fill_batch,
    plan_backfill,
    start_backfill,
)
from tests.oracle import flush_all, stored
from tests.threads import beside
from workflows_tasks import history as package
from workflows_tasks.comparison import compare
from workflows_tasks.history import EVERYWHERE
from workflows_tasks.models import WorkspaceRecentWorkflow


def state_of(run: str) -> set[str]:
    """What a comparison says of the rows that name a run."""
    return {each.state for each in package.compare(EVERYWHERE) if each.stored_run == run}


def run_gone_while_it_is_filled(history: History, lease: Lease, steps: int) -> str:
    """A run that a fill has just read and written is deleted and that change flushed, before the fill commits."""
    gone: list[str] = []

    def delete_and_flush() -> None:
        heavy = history.host.workspace_key(history.heavy)
        run = next(row.run for row in stored() if row.workspace == heavy)

        def delete() -> None:
            history.host.run_model._base_manager.get(pk=run).delete()
            flush_all()

        with beside() as start:
            start(delete).result(20)
        gone.append(str(run))

    fill_batch(lease, steps=steps, before_commit=delete_and_flush)
    return gone[0]


def finished(backfill: Backfill, lease: Lease) -> None:
    leases.finish(lease)


def killed(backfill: Backfill, lease: Lease) -> None:
    """Before it could look; another worker takes the chunk over, which has nothing to fill."""
    expire(lease)
    assert worker._attempt(claim_chunk(backfill), 1e12)


def paused(backfill: Backfill, lease: Lease) -> None:
    control.pause(backfill.pk, actor="a test")
    worker._attempt(lease, 1e12)
    assert control.get(backfill.pk).status == "paused"


def cancelled_by_its_worker(backfill: Backfill, lease: Lease) -> None:
    control.cancel(backfill.pk, actor="a test")
    worker._attempt(lease, 1e12)
    assert control.get(backfill.pk).status == "cancelled"


def cancelled_after_its_worker_was_killed(backfill: Backfill, lease: Lease) -> None:
    """No worker is left at all: the command looks over what is open."""
    expire(lease)
    call_command("backfill", "cancel", str(backfill.pk))
    assert control.get(backfill.pk).status == "cancelled"
    assert not chunks(backfill, is_open=True)


def failed(backfill: Backfill, lease: Lease) -> None:
    leases.fail(lease, "refused")


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        (100, finished),
        *(
            pytest.param(*case, marks=pytest.mark.host_independent)
            for case in (
                (100, killed), (1, paused), (1, cancelled_by_its_worker), (1, cancelled_after_its_worker_was_killed),
                (1, failed),
            )
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_run_that_goes_between_a_fills_write_and_its_commit(
    history: History, steps: int, ends: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_complete(history, carry_out(start_backfill()))  # so that unfilled history explains nothing any more
    only = history.only(history.heavy)
    WorkspaceRecentWorkflow.objects.filter(workspace_id=history.host.workspace_key(history.heavy)).delete()
    backfill = plan_backfill(only, chunk_size=400, concurrency=5)
    lease = claim_chunk(backfill)
    gone = run_gone_while_it_is_filled(history, lease, steps)
    assert state_of(gone) == {"unfilled"}
    with monkeypatch.context() as patch:
        patch.setattr(compare, "_unfilled", [])
        assert state_of(gone) == {"drift"}, "nothing but the open chunk explains it"
    ends(backfill, lease)  # type: ignore[operator]
    assert not [chunk for chunk in chunks(backfill, is_open=True) if chunk.passed or not chunk.planned]
    with monkeypatch.context() as patch:
        patch.setattr(compare, "_unfilled", [])
        assert state_of(gone) == {"waiting"}, "its rows are in the change log"
    flush_all()
    assert gone not in {str(row.run) for row in stored()}
    if control.get(backfill.pk).status in {"running", "paused"}:
        if control.get(backfill.pk).status == "paused":
            control.resume(backfill.pk, actor="a test")
        for chunk in chunks(backfill, status="running"):
            expire(Lease(backfill, chunk))
        progress = carry_out(backfill)
        assert progress.verify.drift == 0, "verifying has nothing to find"
        assert_complete(history, progress)


@pytest.mark.host_independent
def test_a_look_that_fails_leaves_the_chunk_open_until_it_succeeds(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill = plan_backfill(history.only(history.heavy), chunk_size=400)
    lease = claim_chunk(backfill)
    gone = run_gone_while_it_is_filled(history, lease, 1)
    real = package.recheck_filled

    def failing(among: package.Range) -> int:
        package.execute(package.Sql("SELECT 1 / 0"))
        return real(among)

    with monkeypatch.context() as patch:
        patch.setattr(package, "recheck_filled", failing)
        leases.fail(lease, "refused")
    (chunk,) = chunks(backfill, kind="fill")
    assert (chunk.status, chunk.is_open) == ("pending", True)
    assert state_of(gone) == {"unfilled"}
    assert carry_out(backfill).verify.drift == 0
    flush_all()
    assert gone not in {str(row.run) for row in stored()}
