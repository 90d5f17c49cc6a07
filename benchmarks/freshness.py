"""From commit to visible, seen from outside: one saves, another polls the table, and neither asks the package.

A save is visible when its workspace's row for the workflow is at least as new as the save.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connections, transaction

from benchmarks.figures import Figures
from benchmarks.filling import backfilled
from benchmarks.goals import GOAL_RATE
from benchmarks.stage import Stage, execute
from benchmarks.timing import quantile
from demo.bots.models import SavedRun
from demo.narration import step
from workflows_tasks import conf

POLL_S: Final = 0.02
SETTLED_WITHIN_S: Final = 30.0
RUN_SAVES: Final = 20
"""Saves of one run while it executes."""

SECONDS_PER_RUN: Final = 10.0
"""How long it executes: so at 350 saves a second 175 are under way."""

Key = tuple[int, int]

BACKFILL: Final = f"{GOAL_RATE} saves/s, backfill"


@dataclass(slots=True)
class Observed:
    """Saves on their way, by workspace and workflow, and the seconds that those took which have arrived."""

    on_the_way: dict[Key, deque[tuple[datetime, float]]] = field(default_factory=dict)
    lags_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def saved(self, key: Key, used_at: datetime) -> None:
        with self.lock:
            self.on_the_way.setdefault(key, deque()).append((used_at, time.monotonic()))

    def look(self) -> int:
        """See what has arrived; how many have not."""
        with self.lock:
            keys = [key for key, waiting in self.on_the_way.items() if waiting]
        if not keys:
            return 0
        rows = execute(_ARRIVED, [[workspace for workspace, _ in keys], [workflow for _, workflow in keys]])
        now = time.monotonic()
        with self.lock:
            for workspace, workflow, used_at in rows:
                waiting = self.on_the_way[workspace, workflow]
                while waiting and waiting[0][0] <= used_at:
                    self.lags_s.append(now - waiting.popleft()[1])
            return sum(map(len, self.on_the_way.values()))


_ARRIVED: Final = """
    SELECT workspace_id, published_run_id, last_used_at
    FROM workflows_tasks_workspacerecentworkflow AS stored
    JOIN unnest(%s::bigint[], %s::bigint[]) AS awaited(workspace, workflow)
      ON (stored.workspace_id, stored.uid, stored.published_run_id) = (awaited.workspace, '', awaited.workflow)
"""


def measure(stage: Stage, figures: Figures, *, rates: tuple[int, ...], seconds: float) -> None:
    """By load, each for some seconds, through Django and beside it; then while history is filled."""
    with stage.worker(conf.settings().queue, concurrency=2), stage.beat():
        for rate in rates:
            _at(stage, figures, f"{rate} saves/s", rate, max(seconds, 20 / rate))
        _at(stage, figures, f"{GOAL_RATE} writes/s by raw SQL", GOAL_RATE, seconds, save=_by_sql)
        with stage.worker(conf.settings().backfill_queue, concurrency=2, name="filling"):
            execute("TRUNCATE workflows_tasks_workspacerecentworkflow")
            _at(stage, figures, BACKFILL, GOAL_RATE, seconds, beside=lambda: backfilled(concurrency=2))


def _at(
    stage: Stage,
    figures: Figures,
    case: str,
    rate: int,
    seconds: float,
    *,
    beside: Callable[[], object] = lambda: None,
    save: Callable[[SavedRun], datetime] | None = None,
) -> None:
    """Save at a rate, and keep what came of it."""
    observed, over = Observed(), threading.Event()
    with step(f"Freshness: {case}") as came_of_it:
        other = threading.Thread(target=_alone(beside), daemon=True)
        before = stage.flush_messages()
        with _observing(observed, over):
            other.start()
            achieved = _saves(stage, observed, rate, seconds, save or _by_django)
            over.set()
            other.join()
        lags = observed.lags_s
        # Each is told of twice: as received and as done.
        messages = (stage.flush_messages() - before) / 2
        for unit, number in (
            ("p50 s", quantile(lags, 0.5)), ("p95 s", quantile(lags, 0.95)), ("p99 s", quantile(lags, 0.99)),
            ("saves/s", achieved), ("messages/save", messages / len(lags)),
        ):  # fmt: skip
            figures.add("freshness", case, "ours", unit, [number])
        came_of_it(f"p50 {quantile(lags, 0.5):.2f} s, p99 {quantile(lags, 0.99):.2f} s at {achieved:.0f}/s")


def _by_django(run: SavedRun) -> datetime:
    with transaction.atomic():
        run.save()
    return run.updated_at


def _by_sql(run: SavedRun) -> datetime:
    if run._state.adding:
        return _by_django(run)
    ((used_at,),) = execute("UPDATE bots_savedrun SET updated_at = now() WHERE id = %s RETURNING updated_at", [run.pk])
    return used_at  # type: ignore[no-any-return]


def _saves(stage: Stage, observed: Observed, rate: int, seconds: float, save: Callable[[SavedRun], datetime]) -> float:
    """Save at a rate; a late save is made up for at once. Returns the rate that was achieved."""
    draw, versions = random.Random(rate), dict(execute("SELECT id, published_run_id FROM bots_publishedrunversion"))
    weights = [shape.runs for shape in stage.shapes]
    under_way: list[tuple[SavedRun, int]] = []
    at_once = max(round(rate * SECONDS_PER_RUN / RUN_SAVES), 1)
    started, saves = time.monotonic(), 0
    while (now := time.monotonic()) < started + seconds:
        if (early_s := started + saves / rate - now) > 0:
            time.sleep(early_s)
        if len(under_way) < at_once:
            (shape,) = draw.choices(stage.shapes, weights)
            run = SavedRun(workspace_id=shape.id, uid="ada-1", parent_version_id=draw.choice(list(versions)))
            under_way.append((run, 0))
        position = saves % len(under_way)
        run, step_ = under_way[position]
        run.state["step"] = step_
        used_at = save(run)
        observed.saved((run.workspace_id or 0, versions[run.parent_version_id]), used_at)
        under_way[position] = (run, step_ + 1)
        if step_ + 1 == RUN_SAVES:
            under_way.pop(position)
        saves += 1
    return saves / (time.monotonic() - started)


@contextmanager
def _observing(observed: Observed, over: threading.Event) -> Iterator[None]:
    """Poll the table in a thread until the saves are over and all have arrived.

    Raises:
        RuntimeError: some did not in time.
    """

    def look() -> None:
        deadline = None
        while observed.look() or not over.is_set():
            if over.is_set():
                deadline = deadline or time.monotonic() + SETTLED_WITHIN_S
                if time.monotonic() > deadline:
                    break
            time.sleep(POLL_S)

    thread = threading.Thread(target=_alone(look), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if waiting := sum(map(len, observed.on_the_way.values())):
        raise RuntimeError(f"{waiting} saves were not visible after {SETTLED_WITHIN_S:.0f} s.")


def _alone(act: Callable[[], Any]) -> Callable[[], None]:
    """``act`` for a thread, whose database connection is closed at its end."""

    def acting() -> None:
        try:
            act()
        finally:
            connections.close_all()

    return acting
