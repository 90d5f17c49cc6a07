"""Every status, and every change from one to another that there is, each with its reason. Nothing else is allowed.

``RUN`` and ``CHUNK`` are what ``models`` enforces on each save, and what the documentation's tables are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from django.db.models import TextChoices

from workflows_tasks.errors import RecentWorkflowsError


class RunStatus(TextChoices):
    """Of a whole backfill."""

    ENQUEUED = "enqueued"
    PLANNING = "planning"
    RUNNING = "running"
    VERIFYING = "verifying"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ChunkStatus(TextChoices):
    """Of one chunk, whether it is filled or verified."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    SPLIT = "split"
    FAILED = "failed"


class Kind(TextChoices):
    """What is done with a chunk."""

    FILL = "fill"
    VERIFY = "verify"


class Edge(NamedTuple):
    """An allowed change of status."""

    source: str
    target: str
    why: str


_R, _C = RunStatus, ChunkStatus

RUN_MEANS: Final[Mapping[str, str]] = {
    _R.ENQUEUED: "Waits for a worker, or for a backfill that was started before it.",
    _R.PLANNING: "A worker counts the runs of each workspace.",
    _R.RUNNING: "Chunks are filled.",
    _R.VERIFYING: "All chunks are filled; table and runs are compared.",
    _R.PAUSING: "No chunk is claimed any more; workers finish their transaction.",
    _R.PAUSED: "Nobody works on it. It goes on where it was when it is resumed.",
    _R.CANCELLING: "As pausing, on the way to cancelled.",
    _R.CANCELLED: "Given up. What was filled stays, and is true.",
    _R.SUCCEEDED: "All is filled, and a comparison afterwards found no difference.",
    _R.FAILED: "The rest is done; some chunks could not be filled, or differences remained.",
}
CHUNK_MEANS: Final[Mapping[str, str]] = {
    _C.PENDING: "Waits for a worker.",
    _C.RUNNING: "A worker holds its lease.",
    _C.DONE: "All its runs are filled and looked at, or its workspaces compared without a difference.",
    _C.SPLIT: "It failed three times; two chunks have its rest now, and a third looks at what it had filled.",
    _C.FAILED: "It failed three times and is as small as a chunk gets; its error and its runs are named.",
}

RUN: Final = (
    Edge(_R.ENQUEUED, _R.PLANNING, "A worker took the first message."),
    Edge(_R.ENQUEUED, _R.PAUSING, "Somebody paused it before it began."),
    Edge(_R.ENQUEUED, _R.CANCELLING, "Somebody cancelled it before it began."),
    Edge(_R.PLANNING, _R.RUNNING, "The plan is stored."),
    Edge(_R.PLANNING, _R.PAUSING, "Somebody paused it; the plan is kept if it is ready in time."),
    Edge(_R.PLANNING, _R.CANCELLING, "Somebody cancelled it; the plan is dropped."),
    Edge(_R.RUNNING, _R.VERIFYING, "The last chunk was filled."),
    Edge(_R.RUNNING, _R.FAILED, "All chunks but the failed ones are filled; retry takes those up again."),
    Edge(_R.RUNNING, _R.PAUSING, "Somebody paused it, or more than a fifth of the last 20 chunks failed twice."),
    Edge(_R.RUNNING, _R.CANCELLING, "Somebody cancelled it."),
    Edge(_R.VERIFYING, _R.SUCCEEDED, "Every range was compared, and none differs."),
    Edge(_R.VERIFYING, _R.FAILED, "A range could not be compared, or differs although its runs were announced."),
    Edge(_R.VERIFYING, _R.PAUSING, "Somebody paused it."),
    Edge(_R.VERIFYING, _R.CANCELLING, "Somebody cancelled it; what is filled stays unverified."),
    Edge(_R.PAUSING, _R.PAUSED, "The last lease was given back, or has expired."),
    Edge(_R.PAUSING, _R.CANCELLING, "Somebody cancelled it while workers were still stopping."),
    Edge(_R.PAUSED, _R.ENQUEUED, "Somebody resumed it; it has no plan yet."),
    Edge(_R.PAUSED, _R.RUNNING, "Somebody resumed it; there are chunks to fill."),
    Edge(_R.PAUSED, _R.VERIFYING, "Somebody resumed it; all chunks were filled already."),
    Edge(_R.PAUSED, _R.CANCELLING, "Somebody cancelled it."),
    Edge(_R.CANCELLING, _R.CANCELLED, "The last lease was given back, or has expired."),
    Edge(_R.FAILED, _R.RUNNING, "Somebody retried it; its failed chunks are pending again."),
    Edge(_R.FAILED, _R.VERIFYING, "Somebody retried it; the ranges that differed are compared again."),
)

CHUNK: Final = (
    Edge(_C.PENDING, _C.RUNNING, "A worker claimed it."),
    Edge(_C.RUNNING, _C.RUNNING, "Its lease expired, and another worker claimed it."),
    Edge(_C.RUNNING, _C.PENDING, "Its worker gave it back: its time was over, it had to wait, or it failed."),
    Edge(_C.RUNNING, _C.DONE, "Its last transaction was committed, and what it wrote was looked at."),
    Edge(_C.RUNNING, _C.SPLIT, "It failed three times at the same place; its rest was halved."),
    Edge(_C.RUNNING, _C.FAILED, "It failed three times and cannot be halved further."),
    Edge(_C.FAILED, _C.PENDING, "Somebody retried it."),
)

OPEN: Final = frozenset({_R.ENQUEUED, _R.PLANNING, _R.RUNNING, _R.VERIFYING, _R.PAUSING, _R.PAUSED, _R.CANCELLING})
"""Runs that are not at their end."""

WORKING: Final = frozenset({_R.RUNNING, _R.VERIFYING})
"""Runs whose chunks may be claimed."""


class TransitionRefused(RecentWorkflowsError):
    """What was asked for is not possible in the status that a backfill has; nothing was changed."""


def check(edges: Iterable[Edge], source: str, target: str) -> None:
    """Let an allowed change pass.

    Raises:
        TransitionRefused: names both statuses, and what is possible instead.
    """
    targets = [edge.target for edge in edges if edge.source == source]
    if target in targets:
        return
    possible = ", ".join(dict.fromkeys(str(each) for each in targets)) or "nothing: it is at its end"
    raise TransitionRefused(f"What is {source} cannot become {target}; possible is: {possible}.")
