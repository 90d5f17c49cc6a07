"""Steps: the smallest parts of a plan, as ranges of (workspace, run) with keys as text.

A step is a row of whole workspaces, or a part of a large one. A chunk is a list of steps, and a transaction fills some
of them. A step knows how many runs it had when it was planned. So nobody counts again, or looks for the place where the
next transaction should end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from workflows_tasks import history
from workflows_tasks.history import Range


class Step(NamedTuple):
    """From ``first`` to ``last``: past ``after_run`` of the first, and up to ``last_run`` of the last, if given."""

    first: str
    after_run: str | None
    last: str
    last_run: str | None
    runs: int

    @property
    def range(self) -> Range:
        return Range(first=self.first, last=self.last, after_run=self.after_run, last_run=self.last_run)

    @property
    def is_tidy(self) -> bool:
        """Whether an index leads to its runs and to no others: it is within one workspace, or has whole ones only."""
        return self.first == self.last or (self.after_run is None and self.last_run is None)


def join(steps: Sequence[Step]) -> Step:
    """Make one step of steps that follow each other."""
    first, last = steps[0], steps[-1]
    return Step(first.first, first.after_run, last.last, last.last_run, sum(step.runs for step in steps))


def pack(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """Divide steps into lists of at most ``size`` runs. A step that has more is alone."""
    some: list[Step] = []
    runs = 0
    for step in steps:
        if some and runs + step.runs > size:
            yield some
            some, runs = [], 0
        some.append(step)
        runs += step.runs
    if some:
        yield some


def next_batch(steps: Sequence[Step], size: int) -> tuple[Step, list[Step]]:
    """Return the next step to fill, of at most about ``size`` runs, and the steps after it.

    It joins as many of the first steps as fit and make a tidy one. A first step that is larger is cut, which takes a
    query. There must be a step.
    """
    if steps[0].runs > size:
        first, *rest = cut(steps[0], size)
        return first, [*rest, *steps[1:]]
    counts = [n for n, runs in enumerate(accumulate(step.runs for step in steps), start=1) if runs <= size]
    count = max(n for n in counts if n == 1 or join(steps[:n]).is_tidy)
    return join(steps[:count]), list(steps[count:])


def whole_batch(steps: Sequence[Step], size: int) -> tuple[Step, list[Step]]:
    """Return what to compare next, and the steps that are left then. A comparison never cuts a workspace."""
    first = next(pack(steps, size))
    return join(first), list(steps[len(first) :])


def cut(step: Step, runs: int) -> list[Step]:
    """Cut a step in two, the first with so many runs. It stays whole if it has no more than that now."""
    around = first_runs(step.range, 2, skip=runs - 1) if runs < step.runs else []
    if len(around) < 2:  # the run to cut after, and one more
        return [step]
    workspace, run = around[0]
    return [
        Step(step.first, step.after_run, workspace, run, runs),
        Step(workspace, run, step.last, step.last_run, step.runs - runs),
    ]


def first_runs(among: Range, limit: int, *, skip: int = 0) -> list[tuple[str, str]]:
    """Return ``(workspace, run)`` of the first runs of a range, of those that history counts."""
    statement = history.compose(
        """SELECT live.workspace::text, live.run::text FROM {live} WHERE {where}
           ORDER BY live.workspace, live.run OFFSET {skip} LIMIT {limit}""",
        live=history.fragments().history, where=among.where("live.workspace", "live.run"), skip=skip, limit=limit,
    )  # fmt: skip
    return history.rows(statement)


def load(steps: Sequence[Sequence[Any]]) -> list[Step]:
    """Make steps of the lists that ``Chunk.steps`` has."""
    return [Step(*step) for step in steps]
