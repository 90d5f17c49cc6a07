"""A load: many users run workflows, and each run is saved at every step of its execution, as on the platform."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from django.db import connections

from demo import catalogue
from demo.bots.models import SavedRun
from demo.history import VERSIONS
from demo.shape import USERS, WorkspaceShape

STEPS: Final = 20
"""Saves of one run while it executes."""

AT_ONCE: Final = 40
"""Runs that execute at the same time."""


@dataclass
class Executions:
    """Runs under way. Each ``save`` takes one of them a step further."""

    shapes: Sequence[WorkspaceShape]
    watched: Sequence[WorkspaceShape] = ()
    """Workspaces somebody looks at."""
    watched_share: float = 1 / 6
    """Part of the runs that is theirs."""
    draw: random.Random = field(default_factory=random.Random)
    counts: Counter[str] = field(default_factory=Counter)
    _under_way: list[SavedRun] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.shapes = [shape for shape in self.shapes if shape.runs]
        # Gentler than history's skew, so that also a middling workspace sees some runs within seconds.
        self._weights = [shape.runs**0.7 for shape in self.shapes]
        self._users = catalogue.users(USERS)
        self._workflows = len(catalogue.titles())

    def paced(self, saves_per_s: float, seconds: float | None = None) -> Iterator[int]:
        """Save at a steady rate, for ``seconds`` or for ever; yields the number of saves so far.

        A late save is made up for at once, so that a slow moment does not lower the rate.
        """
        started = time.monotonic()
        saves = 0
        while seconds is None or time.monotonic() < started + seconds:
            time.sleep(max(started + saves / saves_per_s - time.monotonic(), 0))
            self.save()
            saves += 1
            yield saves

    def save(self) -> None:
        """One step of one run: a new run now and then, and at its end now and then what people do to runs."""
        if len(self._under_way) < AT_ONCE:
            self._under_way.append(self._new_run())
        position = self.draw.randrange(len(self._under_way))
        run = self._under_way[position]
        run.state["step"] += 1
        run.save()
        self.counts["saves"] += 1
        if run.state["step"] >= STEPS:
            self._under_way.pop(position)
            self.counts["runs"] += 1
            self._afterwards(run)

    def _new_run(self) -> SavedRun:
        if self.watched and self.draw.random() < self.watched_share:
            shape = self.draw.choice(self.watched)
        else:
            (shape,) = self.draw.choices(self.shapes, self._weights)
        self.counts["begun"] += 1
        user = shape.first_user + int(shape.users * self.draw.random() ** 2)
        # One past the workflows it has: some runs are of a workflow that is new to the workspace.
        choice = int((shape.workflows + 1) * self.draw.random() ** 2) if shape.workflows > 1 else 0
        workflow = (shape.first_workflow + choice) % self._workflows
        return SavedRun(
            workspace_id=shape.id,
            uid=self._users[user % USERS] if self.draw.random() > 0.02 else None,
            parent_version_id=1 + VERSIONS * workflow + self.draw.randrange(VERSIONS),
            state={"step": 0, "steps": STEPS, "output": "…"},
        )

    def _afterwards(self, run: SavedRun) -> None:
        chance = self.draw.random()
        if chance < 0.03:
            run.delete()
            self.counts["deleted"] += 1
        elif chance < 0.06:
            run.surface = 1
            run.save()
            self.counts["hidden"] += 1
        elif chance < 0.09:
            run.workspace_id = self.draw.choice(self.shapes).id
            run.save()
            self.counts["moved"] += 1


@contextmanager
def executing(executions: Executions, saves_per_s: float) -> Iterator[None]:
    """Within, workflows execute, in a thread."""
    ended = threading.Event()

    def execute() -> None:
        try:
            for _ in executions.paced(saves_per_s):
                if ended.is_set():
                    break
        finally:
            connections.close_all()

    thread = threading.Thread(target=execute, name="executions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)
