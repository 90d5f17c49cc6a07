"""Start, steer and watch backfills. Command, admin, migrations, Python and beat all go through here.

``start`` and the functions that steer return the backfill as it is then. If they raise ``NoSuchBackfill``,
``TransitionRefused`` or ``InvalidArgument``, nothing has changed. ``actor`` says who asked, for the log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from backfill import lifecycle, models, planner, progress, states, throttle
from backfill.log import record
from backfill.models import Backfill, store
from backfill.states import BackfillStatus, ChunkStatus, Kind, TransitionRefused
from workflows_tasks import conf
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.history import EVERYWHERE, Range

CHUNK_SIZE: Final = 200_000
CONCURRENCY: Final = 2
"""Runs of a chunk, and chunks at a time, unless the caller says."""

MOST_RUNS: Final = 100_000_000
MOST_CONCURRENT: Final = 1_000


class NoSuchBackfill(InvalidArgument):
    """There is no backfill with that number, or none at all."""


def plan(workspaces: Range = EVERYWHERE, *, chunk_size: int = CHUNK_SIZE) -> planner.Plan:
    """Count all runs and return what ``start`` would do. Writes nothing."""
    _check_number("chunk size", chunk_size, most=MOST_RUNS)
    return planner.plan(workspaces, chunk_size=chunk_size)


def start(
    workspaces: Range = EVERYWHERE,
    *,
    chunk_size: int = CHUNK_SIZE,
    concurrency: int = CONCURRENCY,
    actor: str,
) -> Backfill:
    """Enqueue a backfill; a worker plans it. Backfills that were started earlier come first.

    Refused while writes are not captured: nobody would find what was written between the plan and the triggers.

    Args:
        workspaces: only these; all by default.
        chunk_size: runs of a chunk.
        concurrency: chunks at the same time.
    """
    check_start(chunk_size, concurrency)
    backfill = models.backfills().create(
        actor=actor, first_workspace=workspaces.first, last_workspace=workspaces.last,
        chunk_size=chunk_size, concurrency=concurrency,
    )  # fmt: skip
    record(backfill, "start", f"{chunk_size:,} runs a chunk, {concurrency} at a time", actor=actor)
    return backfill


def pause(backfill_id: int, *, actor: str) -> Backfill:
    """Claim no more chunks. Workers stop after the transaction they are in."""
    return _change(backfill_id, "pause", actor, lambda it: store(it, status=BackfillStatus.PAUSED))


def cancel(backfill_id: int, *, actor: str) -> Backfill:
    """Give it up for good. What was filled stays, and is looked over."""
    return _change(backfill_id, "cancel", actor, lambda it: store(it, status=BackfillStatus.CANCELLING))


def resume(backfill_id: int, *, actor: str) -> Backfill:
    """Go on where it was, and try again what was refused. Nothing committed is done again."""
    return _change(backfill_id, "resume", actor, _resume)


def _resume(backfill: Backfill) -> None:
    if backfill.status not in {BackfillStatus.PAUSED, BackfillStatus.FAILED}:
        raise TransitionRefused(
            f"backfill {backfill.pk} is {backfill.status}; only a paused or failed one can be resumed."
        )
    idle = (
        models.chunks(backfill)
        .filter(status__in=[ChunkStatus.PENDING, ChunkStatus.FAILED])
        .exclude(error="", refused=[])
    )
    for chunk in idle.select_for_update():
        steps = [*(step for step, _, _ in chunk.refused), *chunk.steps]
        store(chunk, status=ChunkStatus.PENDING, steps=steps, refused=[], failures=0, retry_at=None, error="")
    store(backfill, status=_where_it_was(backfill), error="", finished_at=None)


def _where_it_was(backfill: Backfill) -> str:
    if backfill.planned_at is None:
        return BackfillStatus.ENQUEUED
    unfilled = models.chunks(backfill).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING], kind=Kind.FILL)
    return BackfillStatus.RUNNING if unfilled.exists() else BackfillStatus.VERIFYING


def set_concurrency(backfill_id: int, concurrency: int, *, actor: str) -> Backfill:
    """Change how many chunks are worked on at the same time. Fewer takes effect as chunks end."""
    _check_number("concurrency", concurrency, most=MOST_CONCURRENT)
    what = f"concurrency {concurrency}"
    return _change(backfill_id, what, actor, lambda it: store(it, concurrency=concurrency))


def status(backfill_id: int | None = None) -> progress.Progress:
    """Return the progress of a backfill, which is chosen as ``get`` does."""
    return progress.of(get(backfill_id))


def get(backfill_id: int | None = None) -> Backfill:
    """Return the backfill with that number; without one, the oldest that has not ended, or else the newest."""
    if backfill_id is None:
        backfill = models.current() or models.backfills().order_by("-id").first()
        what = "there is no backfill yet"
    else:
        backfill = models.backfills().filter(pk=backfill_id).first()
        what = f"there is no backfill {backfill_id}"
    if backfill is None:
        raise NoSuchBackfill(f"{what}; start one: manage.py backfill start.")
    return backfill


def tick() -> tuple[int, int]:
    """Look after the oldest backfill that has not ended. Returns ``(backfill, messages)`` to send now, or (0, 0).

    All of its state is in the backfill's row. So a kill loses nothing, and of two ticks at once the second sees that
    the first has just looked. A tick sends at most as many messages as there are chunks to work on at a time.
    """
    current = models.current()
    if current is None:
        return 0, 0
    reasons = throttle.reasons_to_wait()
    with models.lock(current.pk) as backfill:
        now = models.database_time()
        period_s = conf.settings().tick_period_s
        if backfill.ticked_at is not None and now - backfill.ticked_at < timedelta(seconds=period_s / 2):
            return 0, 0
        lifecycle.settle(backfill)
        messages = 0 if reasons and backfill.status != BackfillStatus.CANCELLING else _messages(backfill)
        is_stopped = backfill.status in {BackfillStatus.PAUSED, BackfillStatus.CANCELLING}
        store(backfill, ticked_at=now, waiting="" if is_stopped else "; ".join(reasons))
        return backfill.pk, messages


def _messages(backfill: Backfill) -> int:
    """Return how many workers to ask for."""
    if backfill.status in {BackfillStatus.ENQUEUED, BackfillStatus.PLANNING}:
        return 1
    if backfill.status not in states.CLAIMABLE:
        return 0
    free = backfill.concurrency - models.active(backfill).count()
    return max(min(free, models.claimable(backfill).count()), 0)


def _change(backfill_id: int, what: str, actor: str, change: Callable[[Backfill], None]) -> Backfill:
    get(backfill_id)
    with models.lock(backfill_id) as backfill:
        change(backfill)
        record(backfill, what, actor=actor)
        lifecycle.settle(backfill)
        return backfill


def check_start(chunk_size: int, concurrency: int) -> None:
    """Raise ``InvalidArgument`` if ``start`` would."""
    _check_number("chunk size", chunk_size, most=MOST_RUNS)
    _check_number("concurrency", concurrency, most=MOST_CONCURRENT)
    if problem := planner.not_captured():
        raise InvalidArgument(problem)


def _check_number(name: str, value: int, *, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number from 1 to {most:,}.")
