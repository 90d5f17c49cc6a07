"""Positions in the order of (workspace, run), with keys as text, and what is between two of them.

A plan is a list of steps: whole workspaces that are next to each other, or a part of one that has more runs. Chunks are
steps packed together, and so is what one transaction fills. A step knows how many runs it had when it was planned, so
nobody needs to count, or to look for the place where the next transaction should end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from workflows_tasks import history
from workflows_tasks.history import Range


class Step(NamedTuple):
    """From ``first``, there past ``after_run`` if it is given, to ``last``, there up to ``last_run`` if it is given."""

    first: str
    after_run: str | None
    last: str
    last_run: str | None
    runs: int

    @property
    def range(self) -> Range:
        """It, as statements take it."""
        return Range(first=self.first, last=self.last, after_run=self.after_run, last_run=self.last_run)

    @property
    def is_tidy(self) -> bool:
        """It is within one workspace, or has whole ones only: then an index leads to its runs and to no others."""
        return self.first == self.last or (self.after_run is None and self.last_run is None)


def joined(steps: Sequence[Step]) -> Step:
    """Steps that follow each other, as one."""
    first, last = steps[0], steps[-1]
    return Step(first.first, first.after_run, last.last, last.last_run, sum(step.runs for step in steps))


def packed(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """Steps in packs of at most ``size`` runs, as many as fit; a step that has more is a pack of its own."""
    pack: list[Step] = []
    runs = 0
    for step in steps:
        if pack and runs + step.runs > size:
            yield pack
            pack, runs = [], 0
        pack.append(step)
        runs += step.runs
    if pack:
        yield pack


def next_batch(steps: Sequence[Step], size: int) -> tuple[Step, list[Step]]:
    """What to fill next, about ``size`` runs at most, and what is left then.

    As many steps as fit and are tidy together. A first step that is too large is cut, which asks the database.
    """
    if steps[0].runs > size:
        first, *rest = cut(steps[0], size)
        return first, [*rest, *steps[1:]]
    fitting = [n for n, runs in enumerate(accumulate(step.runs for step in steps), start=1) if runs <= size]
    count = max(n for n in fitting if n == 1 or joined(steps[:n]).is_tidy)
    return joined(steps[:count]), list(steps[count:])


def whole_batch(steps: Sequence[Step], size: int) -> tuple[Step, list[Step]]:
    """What to compare next, and what is left then: steps of whole workspaces, one at least, never cut."""
    pack = next(packed(steps, size))
    return joined(pack), list(steps[len(pack) :])


def cut(step: Step, runs: int) -> list[Step]:
    """A step in two, the first with so many runs; or as it is, where it has not more than that (any more)."""
    around = first_runs(step.range, 2, skip=runs - 1) if runs < step.runs else []
    if len(around) < 2:  # the run to cut after, and one that comes after it
        return [step]
    workspace, run = around[0]
    return [
        Step(step.first, step.after_run, workspace, run, runs),
        Step(workspace, run, step.last, step.last_run, step.runs - runs),
    ]


def first_runs(among: Range, limit: int, *, skip: int = 0) -> list[tuple[str, str]]:
    """``(workspace, run)`` of the first runs of a range that history counts."""
    statement = history.compose(
        """SELECT live.workspace::text, live.run::text FROM {live} WHERE {where}
           ORDER BY live.workspace, live.run OFFSET {skip} LIMIT {limit}""",
        live=history.fragments().history, where=history.in_history(among), skip=skip, limit=limit,
    )  # fmt: skip
    return history.rows(statement)


def loaded(steps: Sequence[Sequence[Any]]) -> list[Step]:
    """Steps as ``Chunk.steps`` keeps them, which is as lists."""
    return [Step(*step) for step in steps]
