"""How a real platform's history is spread: a few workspaces have most of it, and each only a few workflows.

That skew is the problem. Any query over history reads every run of a workspace to name the handful of workflows that
they belong to, so the sizes here are a real platform's, scaled down.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from demo import catalogue

REAL_RUNS: Final = 7_400_000
HEAVIEST: Final = ((5, 1_780_569, 1), (232_791, 231_343, 3), (3_206_451, 69_119, 1), (3_764_345, 53_981, 3),
                   (3_466_675, 52_471, 10))  # fmt: skip
"""(workspace id, runs, distinct workflows) of the five workspaces with the longest history, of ``REAL_RUNS``."""

MOST_WORKFLOWS: Final = 240
LARGEST_ID: Final = 3_800_000
RUNS_PER_SMALL_WORKSPACE: Final = 52
"""On average, in the long tail."""

USERS: Final = 900
EMPTY: Final = 42
"""Id of a workspace where nothing has ever run."""


@dataclass(frozen=True, slots=True)
class WorkspaceShape:
    """One workspace's part of history."""

    id: int
    name: str
    runs: int
    workflows: int
    users: int

    @property
    def first_workflow(self) -> int:
        """Its workflows follow this one in the catalogue; workspaces overlap, as public workflows are used by many."""
        return self.id * 7

    @property
    def first_user(self) -> int:
        return self.id * 11


def shapes(total_runs: int) -> list[WorkspaceShape]:
    """Every workspace, the heaviest five first, then the long tail in falling size, at last an empty one.

    The same for the same total.
    """
    heaviest = list(_heaviest(total_runs))
    tail = list(_tail(total_runs - sum(shape.runs for shape in heaviest)))
    return [*heaviest, *tail, WorkspaceShape(id=EMPTY, name="Blank Page", runs=0, workflows=0, users=0)]


def _heaviest(total_runs: int) -> Iterator[WorkspaceShape]:
    for position, (workspace, runs, workflows) in enumerate(HEAVIEST):
        scaled = max(runs * total_runs // REAL_RUNS, workflows)
        yield WorkspaceShape(
            id=workspace, name=catalogue.company(position), runs=scaled, workflows=workflows, users=_users(scaled)
        )


def _tail(total_runs: int) -> Iterator[WorkspaceShape]:
    draw = random.Random(total_runs)
    count = max(total_runs // RUNS_PER_SMALL_WORKSPACE, 1)
    taken = {EMPTY, *(workspace for workspace, _, _ in HEAVIEST)}
    free = [each for each in draw.sample(range(100, LARGEST_ID), count + len(taken)) if each not in taken]
    weights = [1 / (rank + 12) ** 0.75 for rank in range(count)]
    whole = sum(weights)
    for position, (workspace, weight) in enumerate(zip(free, weights, strict=False)):
        runs = max(round(total_runs * weight / whole), 1)
        workflows = min(max(round(runs**0.5 * draw.uniform(0.2, 1.8)), 1), runs, MOST_WORKFLOWS)
        name = catalogue.company(position + len(HEAVIEST))
        yield WorkspaceShape(id=workspace, name=name, runs=runs, workflows=workflows, users=_users(runs))


def _users(runs: int) -> int:
    return min(round(runs**0.3) or 1, USERS)
