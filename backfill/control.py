"""What can be asked of a backfill. Every way to ask goes through here: command, admin, migration, Python, beat.

Who asks is noted (``actor``). Each function does its part under the backfill's lock and returns it as it then is; or it
raises ``NoSuchBackfill``, ``TransitionRefused`` or ``InvalidArgument``, and nothing was changed.
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
"""What a backfill has, unless it is told otherwise."""

MOST_RUNS: Final = 100_000_000
MOST_CONCURRENT: Final = 1_000


class NoSuchBackfill(InvalidArgument):
    """There is no backfill of that number, or none at all."""


def plan(workspaces: Range = EVERYWHERE, *, chunk_size: int = CHUNK_SIZE) -> planner.Plan:
    """What a backfill would do, with arguments as for ``start``. Writes nothing; reads all runs that history counts."""
    _check_number("chunk size", chunk_size, most=MOST_RUNS)
    return planner.plan(workspaces, chunk_size=chunk_size)


def start(
    workspaces: Range = EVERYWHERE,
    *,
    chunk_size: int = CHUNK_SIZE,
    concurrency: int = CONCURRENCY,
    actor: str,
) -> Backfill:
    """Enqueue a backfill: a worker plans it. It waits for those that were started before it and are open.

    Refused while writes are not captured: what was written between its plan and the triggers would be nobody's.

    Args:
        workspaces: only these; all by default. Whole ones.
        chunk_size: runs of a chunk.
        concurrency: chunks at the same time.
    """
    check_start(chunk_size, concurrency)
    backfill = models.backfills().create(
        actor=actor, first_workspace=workspaces.first, last_workspace=workspaces.last,
        chunk_size=chunk_size, concurrency=concurrency,
    )  # fmt: skip
    record(backfill, "start", _described(backfill), actor=actor)
    return backfill


def pause(backfill_id: int, *, actor: str) -> Backfill:
    """No chunk is claimed from now on, and workers stop after the transaction they are in."""
    return _changed(backfill_id, "pause", actor, lambda it: store(it, status=BackfillStatus.PAUSED))


def cancel(backfill_id: int, *, actor: str) -> Backfill:
    """The same, for good. What was filled stays, and is looked over."""
    return _changed(backfill_id, "cancel", actor, lambda it: store(it, status=BackfillStatus.CANCELLING))


def resume(backfill_id: int, *, actor: str) -> Backfill:
    """Go on where it was, and try again what was refused. Nothing that was committed is done again."""
    return _changed(backfill_id, "resume", actor, _resume)


def _resume(backfill: Backfill) -> None:
    if backfill.status not in {BackfillStatus.PAUSED, BackfillStatus.FAILED}:
        raise TransitionRefused(
            f"backfill {backfill.pk} is {backfill.status}; only a paused or failed one can be resumed."
        )
    stopped = (
        models.chunks(backfill)
        .filter(status__in=[ChunkStatus.PENDING, ChunkStatus.FAILED])
        .exclude(error="", refused=[])
    )
    for chunk in stopped.select_for_update():
        steps = [*(step for step, _, _ in chunk.refused), *chunk.steps]
        store(chunk, status=ChunkStatus.PENDING, steps=steps, refused=[], failures=0, retry_at=None, error="")
    store(backfill, status=_where_it_was(backfill), error="", finished_at=None)


def _where_it_was(backfill: Backfill) -> str:
    if backfill.planned_at is None:
        return BackfillStatus.ENQUEUED
    unfilled = models.chunks(backfill).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING], kind=Kind.FILL)
    return BackfillStatus.RUNNING if unfilled.exists() else BackfillStatus.VERIFYING


def set_concurrency(backfill_id: int, concurrency: int, *, actor: str) -> Backfill:
    """Change how many chunks are worked on at the same time, also while it runs. Fewer takes effect as chunks end."""
    _check_number("concurrency", concurrency, most=MOST_CONCURRENT)
    what = f"concurrency {concurrency}"
    return _changed(backfill_id, what, actor, lambda it: store(it, concurrency=concurrency))


def status(backfill_id: int | None = None) -> progress.Progress:
    """How a backfill is; the one that ``get`` returns."""
    return progress.of(get(backfill_id))


def get(backfill_id: int | None = None) -> Backfill:
    """The backfill of that number; without one the open one whose turn it is, or else the newest."""
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
    """Look after the open backfill: ``(backfill, messages)`` to send for it now; (0, 0) if nothing is to be done.

    It keeps nothing but what is in the backfill's row: killing it loses nothing, and of two at once one finds that the
    other has just looked. So no more messages are sent in a period than may be worked on, and each expires with the
    period.
    """
    current = models.current()
    if current is None:
        return 0, 0
    reasons = throttle.reasons_to_wait()
    with models.locked(current.pk) as backfill:
        now = models.database_time()
        period_s = conf.settings().tick_period_s
        if backfill.ticked_at is not None and now - backfill.ticked_at < timedelta(seconds=period_s / 2):
            return 0, 0
        lifecycle.settle(backfill)
        messages = 0 if reasons and backfill.status != BackfillStatus.CANCELLING else _messages(backfill)
        is_held_up = backfill.status in {BackfillStatus.ENQUEUED, BackfillStatus.PLANNING, *states.WORKING}
        waiting = "; ".join(reasons) if is_held_up else ""
        store(backfill, ticked_at=now, waiting=waiting)
        return backfill.pk, messages


def _messages(backfill: Backfill) -> int:
    """How many workers to ask for."""
    if backfill.status in {BackfillStatus.ENQUEUED, BackfillStatus.PLANNING}:
        return 1
    if backfill.status not in states.CLAIMABLE:
        return 0
    free = backfill.concurrency - models.active(backfill).count()
    return max(min(free, models.claimable(backfill).count()), 0)


def _changed(backfill_id: int, what: str, actor: str, change: Callable[[Backfill], None]) -> Backfill:
    get(backfill_id)
    with models.locked(backfill_id) as backfill:
        change(backfill)
        record(backfill, what, actor=actor)
        lifecycle.settle(backfill)
        return backfill


def check_start(chunk_size: int, concurrency: int) -> None:
    """Raise ``InvalidArgument`` where ``start`` would."""
    _check_number("chunk size", chunk_size, most=MOST_RUNS)
    _check_number("concurrency", concurrency, most=MOST_CONCURRENT)
    if problem := planner.not_captured():
        raise InvalidArgument(problem)


def _check_number(name: str, value: int, *, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number from 1 to {most:,}.")


def _described(backfill: Backfill) -> str:
    first, last = backfill.first_workspace, backfill.last_workspace
    which = "all workspaces" if first is None and last is None else f"workspaces {first or ''} to {last or ''}"
    return f"{which}, {backfill.chunk_size:,} runs a chunk, {backfill.concurrency} at a time"
