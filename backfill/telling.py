"""Plans and progress as lines of text, for an operator's terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from backfill import spans
from backfill.advice import Advice
from backfill.planner import Plan
from backfill.progress import Phase, Progress
from backfill.states import RunStatus

BAR: Final = 30
CHUNKS_SHOWN: Final = 8


def of_plan(plan: Plan, advice: Advice) -> Iterator[str]:
    """What ``backfill plan`` prints."""
    yield f"{plan.runs:,} runs of {plan.workspaces:,} workspaces, counted at {plan.counted_at:%Y-%m-%d %H:%M:%S}"
    yield (
        f"{len(plan.chunks):,} chunks of at most {plan.chunk_size:,} runs (the largest has {plan.largest:,}), "
        f"{plan.parallel} at a time; verified in {len(plan.ranges):,} ranges"
    )
    yield f"about {_duration(plan.estimated_s)} of filling, by a rule of thumb; status measures"
    yield ""
    whole = [spans.joined(chunk) for chunk in plan.chunks]
    yield from table(
        ("chunk", "first workspace", "past run", "last workspace", "up to run", "runs"),
        [
            (str(n), step.first, step.after_run or "-", step.last, step.last_run or "-", f"{step.runs:,}")
            for n, step in _ends(whole)
        ],
    )
    if len(whole) > 2 * CHUNKS_SHOWN:
        yield f"  ... {len(whole) - 2 * CHUNKS_SHOWN:,} more; --json has them all"
    yield ""
    yield from _of_workspaces(plan)
    yield ""
    yield from _of_advice(advice)


def _of_workspaces(plan: Plan) -> Iterator[str]:
    yield "Workspaces by their runs:"
    most = max((magnitude.runs for magnitude in plan.histogram), default=1)
    yield from table(
        ("runs", "workspaces", "runs together", ""),
        [
            (
                f"{m.at_least:,}+",
                f"{m.workspaces:,}",
                f"{m.runs:,}",
                ("#" * max(round(BAR * m.runs / most), 1)).ljust(BAR),
            )
            for m in plan.histogram
        ],
    )
    yield ""
    yield "The heaviest:"
    yield from table(
        ("workspace", "runs", "share"),
        [(w.workspace, f"{w.runs:,}", f"{100 * w.runs / max(plan.runs, 1):.1f} %") for w in plan.heaviest],
    )


def _ends(steps: Sequence[spans.Step]) -> Iterator[tuple[int, spans.Step]]:
    """The first and the last few, numbered."""
    for n, step in enumerate(steps, start=1):
        if n <= CHUNKS_SHOWN or n > len(steps) - CHUNKS_SHOWN:
            yield n, step


def _of_advice(advice: Advice) -> Iterator[str]:
    yield f"Counting reads the runs by: {advice.reads_by}"
    if not advice.is_led_by_workspace:
        yield "No index begins with the workspace: EVERY TRANSACTION WOULD READ THE WHOLE TABLE. Make one first."
    if advice.index:
        yield f"With this index, about {advice.index_bytes / 1e6:,.0f} MB, counting and filling would read it alone:"
        yield f"  {advice.index};"
    if advice.elsewhere:
        yield f"Not in that index, since they are in other tables: {', '.join(advice.elsewhere)}"


def of_progress(progress: Progress) -> Iterator[str]:
    """What ``backfill status`` prints."""
    run = progress.run
    yield f"backfill {run.pk}: {run.status}, started by {run.actor} at {run.created_at:%Y-%m-%d %H:%M:%S}"
    yield _phase("filled", progress.fill)
    if run.status in {RunStatus.VERIFYING, RunStatus.SUCCEEDED} or progress.verify.done:
        yield _phase("verified", progress.verify)
    if run.is_open:
        yield f"  {_speed(progress)}, {run.width} of {run.parallel} at a time, {progress.fill.rows:,} rows written"
    else:
        took = f" in {_duration((run.finished_at - run.created_at).total_seconds())}" if run.finished_at else ""
        yield f"  {progress.fill.rows:,} rows written{took}"
    chunks = ", ".join(f"{count:,} {status}" for status, count in progress.phase.chunks.items())
    if chunks:
        yield f"  chunks: {chunks}"
    if progress.verify.drift:
        yield f"  differences found by verifying, announced and looked at again: {progress.verify.drift:,}"
    yield from (f"  waiting: {reason}" for reason in progress.reasons)
    for active in progress.active:
        share = 100 * active.done / max(active.planned, 1)
        yield f"  chunk {active.chunk} ({active.extent}): {share:.0f} % of {active.planned:,}, {active.worker}"
    for failure in progress.failures:
        runs = f"; runs {', '.join(failure.runs)}" if failure.runs else ""
        yield f"  failed: chunk {failure.chunk} ({failure.extent}{runs}): {failure.error}"
    if run.error:
        yield f"  {run.status}: {run.error}"


def in_one_line(progress: Progress) -> str:
    """For output that cannot be redrawn."""
    phase = progress.phase
    waiting = f", waiting: {'; '.join(progress.reasons)}" if progress.reasons else ""
    return (
        f"{progress.run.status} {phase.percent:5.1f} % of {phase.planned:,} runs, {_speed(progress)}, "
        f"{len(progress.active)} active, {len(progress.failures)} failed{waiting}"
    )


def _phase(name: str, phase: Phase) -> str:
    if not phase.planned:
        return f"  {name:<8} nothing is planned yet"
    full = BAR * phase.done // phase.planned
    bar = "#" * full + "-" * (BAR - full)
    return f"  {name:<8} [{bar}] {phase.percent:5.1f} %  {phase.done:,} of {phase.planned:,} runs"


def _speed(progress: Progress) -> str:
    if progress.runs_per_s is None or progress.eta_s is None:
        return "measuring"
    return f"{progress.runs_per_s:,.0f} runs/s, {_duration(progress.eta_s)} left"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def table(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns, flush right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in (head, *lines):
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
