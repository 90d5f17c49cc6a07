"""A load: many users run workflows, each run is saved at every step, and another program writes SQL beside Django."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connection, connections

from demo import catalogue
from demo.bots.models import SavedRun
from demo.history import VERSIONS
from demo.shape import USERS, WorkspaceShape

STEPS: Final = 20
"""Saves of one run while it executes."""

AT_ONCE: Final = 40
"""Runs that execute at the same time."""

SQL_SHARE: Final = 1 / 8
"""Statements of the other program, for each save through Django."""


@dataclass
class Executions:
    """Runs under way. Each ``save`` takes one of them a step further."""

    shapes: Sequence[WorkspaceShape]
    draw: random.Random = field(default_factory=random.Random)
    counts: Counter[str] = field(default_factory=Counter)
    _under_way: list[SavedRun] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.shapes = [shape for shape in self.shapes if shape.runs]
        # Gentler than history's skew, so that also a middling workspace gets some runs within seconds.
        self._weights = [shape.runs**0.7 for shape in self.shapes]
        self._users = catalogue.users(USERS)
        self._workflows = len(catalogue.titles())

    def paced(self, saves_per_s: float, seconds: float | None = None) -> Iterator[None]:
        """Save at a steady rate, for ``seconds`` or for ever, and write SQL now and then.

        A late save is made up for at once, so that a slow moment does not lower the rate.
        """
        started = time.monotonic()
        with other_program() as other:
            while seconds is None or time.monotonic() < started + seconds:
                time.sleep(max(started + self.counts["saves"] / saves_per_s - time.monotonic(), 0))
                self.save()
                if self.draw.random() < SQL_SHARE:
                    self.write_sql(other)
                yield

    def save(self) -> None:
        """One step of one run, and at its end now and then what people do to runs."""
        if len(self._under_way) < AT_ONCE:
            self.counts["begun"] += 1
            self._under_way.append(SavedRun(**self._new_run(), state={"step": 0, "steps": STEPS, "output": "…"}))
        position = self.draw.randrange(len(self._under_way))
        run = self._under_way[position]
        run.state["step"] += 1
        run.save()
        self.counts["saves"] += 1
        if run.state["step"] >= STEPS:
            self._afterwards(self._under_way.pop(position))

    def write_sql(self, other: Any) -> None:
        """One statement of a program that knows nothing of Django: signals never see it."""
        what = self.draw.choices(list(STATEMENTS), [50, 30, 15, 3])[0]
        other.execute(
            STATEMENTS[what], {**self._new_run(), "published_run_id": 1 + self.draw.randrange(self._workflows)}
        )
        self.counts[what] += 1

    def _new_run(self) -> dict[str, Any]:
        (shape,) = self.draw.choices(self.shapes, self._weights)
        user = shape.first_user + int(shape.users * self.draw.random() ** 2)
        # One past the workflows it has: some runs are of a workflow that is new to the workspace.
        choice = int((shape.workflows + 1) * self.draw.random() ** 2) if shape.workflows > 1 else 0
        workflow = (shape.first_workflow + choice) % self._workflows
        return {
            "workspace_id": shape.id,
            "uid": self._users[user % USERS] if self.draw.random() > 0.02 else None,
            "parent_version_id": 1 + VERSIONS * workflow + self.draw.randrange(VERSIONS),
        }

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


_NEWEST: Final = """(SELECT id FROM bots_savedrun WHERE workspace_id = %(workspace_id)s AND surface = 0
    ORDER BY updated_at DESC LIMIT 1 {skipping})"""

STATEMENTS: Final = {
    "INSERT": """INSERT INTO bots_savedrun
        (workspace_id, uid, parent_version_id, surface, state, created_at, updated_at)
        VALUES (%(workspace_id)s, %(uid)s, %(parent_version_id)s, 0, '{"step": 20, "steps": 20}', now(), now())""",
    "UPDATE": f"UPDATE bots_savedrun SET updated_at = now() WHERE id = {_NEWEST.format(skipping='OFFSET 5')}",
    "DELETE": f"DELETE FROM bots_savedrun WHERE id = {_NEWEST.format(skipping='')}",
    "UPDATE of a version": """UPDATE bots_publishedrunversion SET published_run_id = %(published_run_id)s
        WHERE id = %(parent_version_id)s""",
}
"""What the other program does. The last leads all runs of a version, in all workspaces, to another workflow."""


@contextmanager
def other_program() -> Iterator[Any]:
    """A cursor of a connection that Django does not know. Each statement is a transaction."""
    other = connection.get_new_connection(connection.get_connection_params())
    try:
        other.autocommit = True
        yield other.cursor()
    finally:
        other.close()


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
