"""How many runs a round of write-behind takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amounts:
    """Runs in a round: enough for a second or so of each contender, who differ by a factor of a hundred."""

    ours: int
    batches: int
    tasks: int
