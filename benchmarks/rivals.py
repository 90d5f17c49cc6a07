"""What simpler ways cost and miss: the upsert in the signal, and the newest 200 runs. Some hosts need no more."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Final

from django.db import OperationalError, connections, transaction

from benchmarks.figures import Figures
from benchmarks.reads import NEWEST_200, workspaces
from benchmarks.saves import BARE, BUSY, SYNC, Way, ways
from benchmarks.stage import Stage, execute
from benchmarks.timing import quantile
from demo import oracle
from demo.bots.models import SavedRun
from demo.narration import step
from workflows_tasks import recent_workflows, recheck
from workflows_tasks.projection.flush import flush_all

WRITERS: Final = 8
TRANSACTIONS: Final = 15
WORKFLOWS: Final = 4
LONG: Final = 250
PAGE: Final = 4
CHANGED: Final = 10
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=timezone.utc)


def measure(stage: Stage, figures: Figures) -> None:
    """Contention first, then what is wrong after ordinary writes."""
    contenders = {name: way for name, way in ways().items() if name in {BARE, BUSY, SYNC}}
    for name, way in contenders.items():
        with step(f"Rivals: {WRITERS} writers in one workspace: {name}") as came_of_it:
            came_of_it(_contention(stage, figures, name, way))
    with step("Rivals: rows that are wrong after deletes, moves and older times") as came_of_it:
        missed = [_missed(stage, figures, name, contenders[name]) for name in (SYNC, BUSY)]
        came_of_it(f"{missed[0]:.0f}, ours {missed[1]:.0f}")
    with step(f"Rivals: a page after {LONG} runs of one workflow") as came_of_it:
        came_of_it(_after_a_long_series(stage, figures))


def _runs(stage: Stage, count: int) -> list[SavedRun]:
    """New runs of the heaviest workspace: each of a member of its own, and all of a few workflows."""
    return [
        SavedRun.objects.create(
            workspace_id=stage.shapes[0].id, uid=f"member-{number}", parent_version_id=1 + number % WORKFLOWS
        )
        for number in range(count)
    ]


def _contention(stage: Stage, figures: Figures, name: str, way: Way) -> str:
    """Each writer saves two runs of its own in a transaction, in any order. Only rows of the table are shared."""
    runs = _runs(stage, WRITERS * WORKFLOWS)
    own = [runs[number * WORKFLOWS : (number + 1) * WORKFLOWS] for number in range(WRITERS)]
    with way.listening(), ThreadPoolExecutor(WRITERS) as pool:
        written = list(pool.map(lambda mine: _write(mine, way.role), own))
    took_ms = [1000 * took_s for times, _ in written for took_s in times]
    deadlocks = sum(count for _, count in written)
    case = f"{WRITERS} writers, two runs a transaction"
    figures.add("rival", case, name, "ms", took_ms)
    figures.add("rival", case, name, "ms, p99", [quantile(took_ms, 0.99)])
    figures.add("rival", case, name, "deadlocks per 1,000 transactions", [1000 * deadlocks / len(took_ms)])
    flush_all()
    return f"p99 {quantile(took_ms, 0.99):.0f} ms, {deadlocks} deadlocks of {len(took_ms)} transactions"


def _write(runs: Sequence[SavedRun], role: str) -> tuple[list[float], int]:
    """Seconds of each transaction, and how many were ended by a deadlock."""
    draw, times, deadlocks = random.Random(runs[0].pk), [], 0
    execute(f"SET session_replication_role = {role}")
    for _ in range(TRANSACTIONS):
        started = time.perf_counter()
        try:
            with transaction.atomic():
                for run in draw.sample(runs, 2):
                    run.save()
        except OperationalError as error:
            if "deadlock detected" not in str(error):
                raise
            deadlocks += 1
        times.append(time.perf_counter() - started)
    connections.close_all()
    return times, deadlocks


def _missed(stage: Stage, figures: Figures, name: str, way: Way) -> float:
    """Rows that differ from the runs after some of them were deleted, moved and made older."""
    with way.installed():
        runs = _runs(stage, 3 * CHANGED)
        gone, moved, older = (SavedRun.objects.filter(pk__in=[run.pk for run in runs[start::3]]) for start in range(3))
        gone.delete()
        moved.update(workspace_id=stage.shapes[1].id)
        older.update(updated_at=LONG_AGO)
    flush_all()
    wrong = float(len(oracle.differences(at_most=10_000)))
    recheck([run.pk for run in runs])
    flush_all()
    figures.add("rival", "after deletes, moves and older times", name, "rows that differ", [wrong])
    return wrong


def _after_a_long_series(stage: Stage, figures: Figures) -> str:
    workspace = workspaces(stage)["middle"]
    execute(
        "INSERT INTO bots_savedrun (workspace_id, uid, parent_version_id, surface, state, created_at, updated_at) "
        "SELECT workspace_id, uid, parent_version_id, surface, state, created_at, "
        "clock_timestamp() + n * interval '1 microsecond' FROM generate_series(1, %s) AS n, "
        "(SELECT * FROM bots_savedrun WHERE workspace_id = %s AND surface = 0 AND parent_version_id IS NOT NULL "
        "ORDER BY updated_at DESC LIMIT 1) AS last",
        [LONG, workspace],
    )
    flush_all()
    shown = {"newest 200 runs": len(execute(NEWEST_200, [workspace, PAGE])), "ours": len(recent_workflows(workspace))}
    for name, count in shown.items():
        figures.add("rival", f"a page after {LONG} runs of one workflow", name, f"cards of {PAGE}", [count])
    return ", ".join(f"{name} {count}" for name, count in shown.items())
