"""``{states}``: the statuses of a backfill or of a chunk and every change between them, from ``backfill.states``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from backfill import states
from docs.directives.written import Written

MACHINES: Final[Mapping[str, tuple[Mapping[str, str], Iterable[states.Edge]]]] = {
    "backfill": (states.BACKFILL_MEANS, states.BACKFILL),
    "chunk": (states.CHUNK_MEANS, states.CHUNK),
}
"""What each status means, and the changes allowed."""


class StatesReference(Written):
    """Its argument is ``backfill`` or ``chunk``."""

    required_arguments = 1

    def markdown(self) -> Iterable[str]:
        means, edges = MACHINES[self.arguments[0]]
        yield from ("| status | |", "|---|---|")
        yield from (f"| {status} | {meaning} |" for status, meaning in means.items())
        yield from ("", "| from | to | because |", "|---|---|---|")
        yield from (f"| {edge.source} | {edge.target} | {edge.why} |" for edge in edges)
