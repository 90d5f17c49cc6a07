"""The statuses of backfills and chunks, and the only changes between them that are allowed, each with its reason.

``BACKFILL`` and ``CHUNK`` are what ``models`` enforces on each save, and what the documentation's tables are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from django.db.models import TextChoices

from workflows_tasks.errors import RecentWorkflowsError


class BackfillStatus(TextChoices):
    """Of a whole backfill."""

    ENQUEUED = "enqueued"
    PLANNING = "planning"
    RUNNING = "running"
    VERIFYING = "verifying"
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


_B, _C = BackfillStatus, ChunkStatus

BACKFILL_MEANS: Final[Mapping[str, str]] = {
    _B.ENQUEUED: "Waits for a worker, or for a backfill that was started before it.",
    _B.PLANNING: "A worker counts the runs of each workspace.",
    _B.RUNNING: "Chunks are filled.",
    _B.VERIFYING: "All chunks are filled; table and runs are compared.",
    _B.PAUSED: "No chunk is claimed; workers finish their transaction. It goes on where it was when it is resumed.",
    _B.CANCELLING: "No chunk is filled any more; what open chunks had filled is looked over.",
    _B.CANCELLED: "Given up. What was filled stays, and was looked over.",
    _B.SUCCEEDED: "All is filled, and a comparison afterwards found no drift.",
    _B.FAILED: "Some runs could not be filled, and nothing was verified; or a range could not be compared, or drifts.",
}
CHUNK_MEANS: Final[Mapping[str, str]] = {
    _C.PENDING: "Waits for a worker.",
    _C.RUNNING: "A worker holds its lease.",
    _C.DONE: "All its runs are filled and looked over, or its workspaces compared without drift.",
    _C.FAILED: "Some of its runs were refused and are named, or it could not be compared; the rest of it is done.",
}

BACKFILL: Final = (
    Edge(_B.ENQUEUED, _B.PLANNING, "A worker took the first message."),
    Edge(_B.ENQUEUED, _B.PAUSED, "Somebody paused it before it began."),
    Edge(_B.ENQUEUED, _B.CANCELLING, "Somebody cancelled it before it began."),
    Edge(_B.PLANNING, _B.RUNNING, "The plan is stored."),
    Edge(_B.PLANNING, _B.PAUSED, "Planning failed; or somebody paused it, and the plan is kept if it gets ready."),
    Edge(_B.PLANNING, _B.CANCELLING, "Somebody cancelled it; the plan is dropped."),
    Edge(_B.RUNNING, _B.VERIFYING, "The last chunk was filled."),
    Edge(_B.RUNNING, _B.FAILED, "All runs are filled but those that were refused."),
    Edge(_B.RUNNING, _B.PAUSED, "Somebody paused it, or a chunk failed five times in a row."),
    Edge(_B.RUNNING, _B.CANCELLING, "Somebody cancelled it."),
    Edge(_B.VERIFYING, _B.SUCCEEDED, "Every range was compared, and none has drift."),
    Edge(_B.VERIFYING, _B.FAILED, "A range could not be compared, or drifts although its runs were logged."),
    Edge(_B.VERIFYING, _B.PAUSED, "Somebody paused it."),
    Edge(_B.VERIFYING, _B.CANCELLING, "Somebody cancelled it; what is filled stays unverified."),
    Edge(_B.PAUSED, _B.ENQUEUED, "Somebody resumed it; it has no plan yet."),
    Edge(_B.PAUSED, _B.RUNNING, "Somebody resumed it; there are chunks to fill."),
    Edge(_B.PAUSED, _B.VERIFYING, "Somebody resumed it; all chunks were filled already."),
    Edge(_B.PAUSED, _B.CANCELLING, "Somebody cancelled it."),
    Edge(_B.CANCELLING, _B.CANCELLED, "Nobody holds a lease, and all that was filled is looked over."),
    Edge(_B.FAILED, _B.RUNNING, "Somebody resumed it; the runs that were refused are tried again."),
    Edge(_B.FAILED, _B.VERIFYING, "Somebody resumed it; the ranges that drifted are compared again."),
)

CHUNK: Final = (
    Edge(_C.PENDING, _C.RUNNING, "A worker claimed it."),
    Edge(_C.RUNNING, _C.PENDING, "Its worker gave it back, failed or died; or it had to wait."),
    Edge(_C.RUNNING, _C.DONE, "Its last transaction was committed; all rows of its range were looked over."),
    Edge(_C.RUNNING, _C.FAILED, "The rest of it is done; or comparing it failed five times in a row."),
    Edge(_C.FAILED, _C.PENDING, "Somebody resumed the backfill."),
)

NOT_ENDED: Final = frozenset({_B.ENQUEUED, _B.PLANNING, _B.RUNNING, _B.VERIFYING, _B.PAUSED, _B.CANCELLING})
"""Backfills that have not ended."""

WORKING: Final = frozenset({_B.RUNNING, _B.VERIFYING})
"""Backfills that fill or compare."""

CLAIMABLE: Final = WORKING | {_B.CANCELLING}
"""Backfills that have chunks to claim: while one is cancelled, those that must be looked over."""


class TransitionRefused(RecentWorkflowsError):
    """What was asked for is not possible in the status that a backfill has; nothing was changed."""


def check(edges: Iterable[Edge], source: str, target: str) -> None:
    """Let an allowed change pass. ``TransitionRefused`` names both statuses, and what is possible instead."""
    targets = [edge.target for edge in edges if edge.source == source]
    if target in targets:
        return
    possible = ", ".join(dict.fromkeys(str(each) for each in targets)) or "nothing: it is at its end"
    raise TransitionRefused(f"What is {source} cannot become {target}; possible is: {possible}.")
