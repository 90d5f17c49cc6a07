"""From an enqueued run to its chunks: planned by one worker, stored once."""

from __future__ import annotations

from typing import Final

from django.db import DatabaseError, InterfaceError, connections

from backfill import course, journal, planner, rows, spans
from backfill.models import Run, saved
from backfill.states import Kind, RunStatus
from workflows_tasks.host import host
from workflows_tasks.sql.fragments import Workspaces

KEEPS_A_PLAN: Final = frozenset({RunStatus.PLANNING, RunStatus.PAUSING, RunStatus.PAUSED})
"""Statuses in which a plan that became ready is stored; a run that was cancelled meanwhile has no use for it."""


def carry_out(run_id: int) -> None:
    """Plan a run and store its chunks; nothing if somebody else does, or has. What fails pauses the run."""
    with rows.locked(run_id) as run:
        if run.status == RunStatus.ENQUEUED:
            saved(run, status=RunStatus.PLANNING)
            journal.record(run, "planning")
        elif run.status != RunStatus.PLANNING:
            return
    try:
        plan = planner.plan(
            workspaces_of(run), since=run.since, chunk_size=run.chunk_size, parallel=run.parallel, for_run=run_id
        )
    except planner.PlannedByAnother:
        return
    except (DatabaseError, InterfaceError) as error:
        connections[host().database].close_if_unusable_or_obsolete()
        _give_up(run_id, f"planning failed: {journal.brief(error)}")
        return
    _store(run_id, plan)


def workspaces_of(run: Run) -> Workspaces:
    """The range that a run was started for."""
    ends = [None if text is None else spans.workspace_key(text) for text in (run.first_workspace, run.last_workspace)]
    return Workspaces(first=ends[0], last=ends[1])


def _store(run_id: int, plan: planner.Plan) -> None:
    with rows.locked(run_id) as run:
        if run.planned_at is not None or run.status not in KEEPS_A_PLAN:
            return
        for kind, packs in ((Kind.FILL, plan.chunks), (Kind.VERIFY, plan.ranges)):
            rows.chunks().bulk_create(course.made(run, kind, packs), batch_size=500)
        saved(run, planned_at=plan.counted_at)
        journal.record(
            run, "planned", f"{plan.runs:,} runs of {plan.workspaces:,} workspaces in {len(plan.chunks):,} chunks"
        )
        if run.status == RunStatus.PLANNING:
            saved(run, status=RunStatus.RUNNING)
            course.settle(run)


def _give_up(run_id: int, why: str) -> None:
    with rows.locked(run_id) as run:
        if run.status == RunStatus.PLANNING:
            saved(run, status=RunStatus.PAUSING, error=why)
            journal.record(run, "pause", why)
            course.settle(run)
