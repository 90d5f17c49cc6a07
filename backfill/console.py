"""Plans and progress as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from backfill import states
from backfill.planner import Plan
from backfill.progress import MOST_LISTED, Phase, Progress
from backfill.states import BackfillStatus

BAR: Final = 30


def of_plan(plan: Plan) -> Iterator[str]:
    """What ``backfill plan`` prints."""
    runs, workspaces = _counted(plan.runs, "run"), _counted(plan.workspaces, "workspace")
    yield f"{runs} of {workspaces}, counted at {plan.counted_at:%Y-%m-%d %H:%M:%S}"
    chunks, ranges_ = _counted(len(plan.chunks), "chunk"), _counted(len(plan.ranges), "range")
    yield f"{chunks} of up to {_counted(plan.largest, 'run')}; verified in {ranges_}"


def of_progress(progress: Progress) -> Iterator[str]:
    """What ``backfill status`` prints."""
    backfill = progress.backfill
    started = f"started by {backfill.actor} at {backfill.created_at:%Y-%m-%d %H:%M:%S}"
    yield f"backfill {backfill.pk}: {backfill.status}, {started}"
    yield _phase("filled", progress.fill)
    if backfill.status in {BackfillStatus.VERIFYING, BackfillStatus.SUCCEEDED} or progress.verify.done:
        yield _phase("verified", progress.verify)
    yield f"  {_pace(progress)}"
    chunks = ", ".join(f"{count:,} {status}" for status, count in (progress.phase.chunks or {}).items())
    if chunks:
        yield f"  chunks: {chunks}"
    if progress.verify.drift:
        yield f"  drift found by verifying, repaired and compared again: {progress.verify.drift:,}"
    yield from (f"  {'waiting' if progress.waits else 'note'}: {reason}" for reason in progress.reasons)
    yield from _chunks(progress)
    if backfill.error:
        yield f"  {backfill.status}: {backfill.error}"


def _chunks(progress: Progress) -> Iterator[str]:
    """The chunks that are worked on, are to be tried again, or have failed."""
    for chunk in progress.active[:MOST_LISTED]:
        share = 100 * chunk.passed / max(chunk.planned, 1)
        yield f"  chunk {chunk.pk} ({chunk.extent}): {share:.0f} % of {chunk.planned:,}, {chunk.worker}"
    if len(progress.active) > MOST_LISTED:
        yield f"  … and {len(progress.active) - MOST_LISTED:,} more chunks are worked on; --json has all"
    for chunk in progress.retrying[:MOST_LISTED]:
        yield f"  to be tried again: chunk {chunk.pk} ({chunk.extent}): {chunk.error}"
    if len(progress.retrying) > MOST_LISTED:
        yield "  … and more to be tried again"
    for chunk in progress.failures[:MOST_LISTED]:
        runs = f"; run {', '.join(chunk.refused_runs)}" if chunk.refused else ""
        yield f"  failed: chunk {chunk.pk} ({chunk.extent}{runs}): {chunk.error}"
    if len(progress.failures) > MOST_LISTED:
        yield "  … and more failed; the log of the workers has each"


def in_one_line(progress: Progress) -> tuple[str, str]:
    """Return how it is, in whole percents, and why it waits."""
    backfill, fill, verify = progress.backfill, int(progress.fill.percent), int(progress.verify.percent)
    why = f"; waiting: {'; '.join(progress.reasons)}" if progress.waits and progress.reasons else ""
    return f"backfill {backfill.pk}: {backfill.status}, {fill} % filled, {verify} % verified", why


def _pace(progress: Progress) -> str:
    backfill, rows = progress.backfill, f"{progress.fill.rows:,} rows written"
    if backfill.finished_at:
        return f"{rows} in {duration((backfill.finished_at - backfill.created_at).total_seconds())}"
    if backfill.status not in states.WORKING:
        return rows
    rows = f"{len(progress.active)} of {backfill.concurrency} chunks at a time, {rows}"
    if progress.waits:
        return rows
    if progress.runs_per_s is None or progress.eta_s is None:
        return f"measuring, {rows}"
    return f"{progress.runs_per_s:,.0f} runs/s, {duration(progress.eta_s)} left, {rows}"


def _phase(name: str, phase: Phase) -> str:
    if not phase.planned:
        return f"  {name:<8} nothing is planned"
    full = BAR * phase.done // phase.planned
    bar = "#" * full + "-" * (BAR - full)
    return f"  {name:<8} [{bar}] {phase.percent:5.1f} %  {phase.done:,} of {phase.planned:,} runs"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
