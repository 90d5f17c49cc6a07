"""How much is measured: ``quick`` is for continuous integration, ``full`` for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.amounts import Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one scale is asked. ``runs`` is the length of its history."""

    runs: int
    read_rounds: int
    saves: int
    amounts: Amounts
    worker_rounds: int
    fill_rounds: int
    rates: tuple[int, ...] = ()
    """Saves a second at which freshness is seen; none where it is not."""
    seconds: float = 0
    """How long each rate is held."""


QUICK: Final = Size(
    runs=100_000, read_rounds=12, saves=300, amounts=Amounts(ours=8_000, batches=800, tasks=60), worker_rounds=2,
    fill_rounds=1, rates=(10, 350), seconds=5,
)  # fmt: skip

FULL: Final = Size(
    runs=7_400_000, read_rounds=40, saves=1_000, amounts=Amounts(ours=40_000, batches=3_000, tasks=300),
    worker_rounds=3, fill_rounds=1, rates=(10, 100, 350, 500, 700, 1_000, 1_400), seconds=12,
)  # fmt: skip

SIZES: Final[Mapping[str, tuple[Size, ...]]] = {
    "quick": (QUICK,),
    "full": (
        replace(QUICK, saves=1_000, fill_rounds=3, rates=(350,), seconds=8),
        replace(FULL, runs=1_000_000, worker_rounds=2, fill_rounds=2, rates=(350,), seconds=8),
        FULL,
    ),
}
"""Each scale has a process, servers and a database of its own; the last is the one that the goals are judged on."""
