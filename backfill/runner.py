"""What can be asked of a backfill. Every way to ask goes through here: command, admin, migration, Python, beat.

Who asks is noted (``actor``). Each function does its part under the run's lock and returns the run as it then is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from backfill import course, journal, planner, progress, rows, spans, states, throttle
from backfill.models import Run, saved
from backfill.states import ChunkStatus, Kind, RunStatus, TransitionRefused
from workflows_tasks import conf, repair
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.sql.fragments import EVERYWHERE, Workspaces

MOST_PARALLEL: Final = 1_000

SAMPLES: Final = 60
"""Ticks whose progress is kept: what the rate is measured over."""


class NoSuchBackfill(InvalidArgument):
    """There is no backfill of that number, or none at all."""


def plan(
    workspaces: Workspaces = EVERYWHERE,
    *,
    since: datetime | None = None,
    chunk_size: int | None = None,
    parallel: int | None = None,
) -> planner.Plan:
    """What a backfill would do. Writes nothing; reads every run that history counts.

    Raises:
        InvalidArgument: names what cannot be meant.
    """
    options = _options(workspaces, since=since, chunk_size=chunk_size, parallel=parallel)
    return planner.plan(workspaces, since=since, chunk_size=options["chunk_size"], parallel=options["parallel"])


def start(
    workspaces: Workspaces = EVERYWHERE,
    *,
    since: datetime | None = None,
    chunk_size: int | None = None,
    parallel: int | None = None,
    actor: str,
) -> Run:
    """Enqueue a backfill: a worker plans it. It waits for those that were started before it and are open.

    Args:
        workspaces: only these; all by default. Whole ones.
        since: only runs used at that moment or later.
        chunk_size: runs of a chunk; ``BACKFILL_CHUNK`` by default.
        parallel: chunks at the same time; ``BACKFILL_PARALLEL`` by default.

    Raises:
        InvalidArgument: names what cannot be meant; nothing was written.
    """
    options = _options(workspaces, since=since, chunk_size=chunk_size, parallel=parallel)
    run = rows.runs().create(actor=actor, width=options["parallel"], **options)
    journal.record(run, "start", _described(run), actor=actor)
    return run


def pause(run_id: int, *, actor: str) -> Run:
    """No chunk is claimed from now on, and workers stop after the transaction they are in.

    Raises:
        NoSuchBackfill, TransitionRefused: nothing was changed.
    """
    return _changed(run_id, "pause", actor, lambda run: saved(run, status=RunStatus.PAUSING))


def cancel(run_id: int, *, actor: str) -> Run:
    """The same, for good. What was filled stays: it is true.

    Raises:
        NoSuchBackfill, TransitionRefused: nothing was changed.
    """
    return _changed(run_id, "cancel", actor, lambda run: saved(run, status=RunStatus.CANCELLING))


def resume(run_id: int, *, actor: str) -> Run:
    """Go on where it was. Nothing that was committed is done again.

    Raises:
        NoSuchBackfill, TransitionRefused: nothing was changed.
    """
    return _changed(run_id, "resume", actor, _resumed)


def _resumed(run: Run) -> None:
    if run.status != RunStatus.PAUSED:  # else a run that is pausing would be resumed under its workers' hands
        raise TransitionRefused(f"backfill {run.pk} is {run.status}; only a paused one is resumed.")
    saved(run, status=_where_it_was(run), error="", outcomes="", width=run.parallel)


def _where_it_was(run: Run) -> str:
    if run.planned_at is None:
        return RunStatus.ENQUEUED
    open_ones = rows.chunks(run).filter(status__in=[ChunkStatus.PENDING, ChunkStatus.RUNNING], kind=Kind.FILL)
    return RunStatus.RUNNING if open_ones.exists() else RunStatus.VERIFYING


def retry(run_id: int, *, actor: str) -> Run:
    """Take up what failed once more, after its cause was mended: of a run that failed, or of one that still runs.

    Raises:
        NoSuchBackfill: there is none.
        TransitionRefused: nothing of it has failed.
    """
    return _changed(run_id, "retry", actor, _retried)


def _retried(run: Run) -> None:
    failed = list(rows.chunks(run).select_for_update().filter(status=ChunkStatus.FAILED))
    if not failed or run.status in {RunStatus.CANCELLING, RunStatus.CANCELLED}:
        why = "it is given up" if failed else "none of its chunks has failed"
        raise TransitionRefused(f"nothing of backfill {run.pk} ({run.status}) can be retried: {why}.")
    for chunk in failed:
        saved(chunk, status=ChunkStatus.PENDING, failures=0, retry_at=None, failed_runs=[])
    if run.status == RunStatus.FAILED:
        saved(run, status=_where_it_was(run), error="", outcomes="", finished_at=None)


def set_parallel(run_id: int, parallel: int, *, actor: str) -> Run:
    """Change how many chunks are worked on at the same time, also while it runs. Fewer takes effect as chunks end.

    Raises:
        NoSuchBackfill, InvalidArgument: nothing was changed.
    """
    _check_number("parallel", parallel, most=MOST_PARALLEL)
    return _changed(
        run_id, "parallel", actor, lambda run: saved(run, parallel=parallel, width=parallel), detail=str(parallel)
    )


def verify(workspaces: Workspaces = EVERYWHERE) -> Iterator[repair.Checked]:
    """Compare table and runs of a range now, in this process, a part at a time. Each part's drift is what
    ``workflows_tasks.operations.repair_now`` takes."""
    return repair.check(workspaces)


def status(run_id: int | None = None) -> progress.Progress:
    """How a backfill is; the newest open one, or else the newest, unless one is named.

    Raises:
        NoSuchBackfill: there is none.
    """
    return progress.of(get(run_id))


def get(run_id: int | None = None) -> Run:
    """The backfill of that number; without one the open one whose turn it is, or else the newest.

    Raises:
        NoSuchBackfill: there is none.
    """
    if run_id is None:
        found = rows.current() or rows.runs().order_by("-id").first()
        what = "there is no backfill yet"
    else:
        found = rows.runs().filter(pk=run_id).first()
        what = f"there is no backfill {run_id}"
    if found is None:
        raise NoSuchBackfill(f"{what}; start one: manage.py backfill start.")
    return found


def tick() -> tuple[int, int]:
    """One look of the orchestrator: ``(run, messages)`` to send for it now; (0, 0) if nothing is to be done.

    It keeps nothing but what is in the run's row: killing it loses nothing, and of two at once one finds that the other
    has just looked. So no more messages are sent in a period than may be worked on, and each expires with the period.
    """
    current = rows.current()
    if current is None:
        return 0, 0
    seen = throttle.look()
    with rows.locked(current.pk) as run:
        now = rows.database_time()
        period_s = conf.settings().backfill_tick_s
        if run.ticked_at is not None and now - run.ticked_at < timedelta(seconds=period_s / 2):
            return 0, 0
        course.settle(run)
        wanted = 0 if seen.stops else _messages(run, seen)
        waiting = str(seen) if run.status in {RunStatus.ENQUEUED, RunStatus.PLANNING, *states.WORKING} else ""
        saved(run, ticked_at=now, waiting=waiting, samples=_sampled(run, now), **({"sent_at": now} if wanted else {}))
        return run.pk, wanted


def _messages(run: Run, seen: throttle.Throttle) -> int:
    """How many workers to ask for."""
    if run.status in {RunStatus.ENQUEUED, RunStatus.PLANNING}:
        return 1
    if run.status not in states.WORKING:
        return 0
    saved(run, width=seen.width(run.width, run.parallel))
    return max(min(run.width - rows.active(run).count(), rows.claimable(run).count()), 0)


def _sampled(run: Run, now: datetime) -> list[list[float]]:
    if run.status not in states.WORKING:
        return []
    done, _ = progress.counted(run, rows.KIND[run.status])
    return [*run.samples, [now.timestamp(), done]][-SAMPLES:]


def _changed(run_id: int, what: str, actor: str, change: Callable[[Run], None], *, detail: str = "") -> Run:
    get(run_id)
    with rows.locked(run_id) as run:
        change(run)
        journal.record(run, what, detail, actor=actor)
        course.settle(run)
        return run


def _options(
    workspaces: Workspaces, *, since: datetime | None, chunk_size: int | None, parallel: int | None
) -> dict[str, Any]:
    """Fields of a run.

    Raises:
        InvalidArgument: names what cannot be meant.
    """
    settings = conf.settings()
    chunk_size = settings.backfill_chunk if chunk_size is None else chunk_size
    parallel = settings.backfill_parallel if parallel is None else parallel
    _check_number("chunk size", chunk_size, most=100_000_000)
    _check_number("parallel", parallel, most=MOST_PARALLEL)
    if since is not None and since > timezone.now():
        raise InvalidArgument(f"since is {since}, which is yet to come; no run would be filled.")
    first, last = (None if key is None else spans.workspace_text(key) for key in (workspaces.first, workspaces.last))
    return {
        "first_workspace": first, "last_workspace": last, "since": since,
        "chunk_size": chunk_size, "parallel": parallel,
    }  # fmt: skip


def _check_number(name: str, value: int, *, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number from 1 to {most:,}.")


def _described(run: Run) -> str:
    first, last = run.first_workspace, run.last_workspace
    which = "all workspaces" if first is None and last is None else f"workspaces {first or ''} to {last or ''}"
    since = f", runs since {run.since}" if run.since else ""
    return f"{which}{since}, {run.chunk_size:,} runs a chunk, {run.parallel} at a time"
