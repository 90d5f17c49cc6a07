"""What is measured at each scale, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import filling, freshness, indexed, reads, saves, write_behind
from benchmarks.figures import Figures
from benchmarks.sizes import Size
from benchmarks.stage import Stage


def _freshness(stage: Stage, figures: Figures, size: Size) -> None:
    if size.rates:
        freshness.measure(stage, figures, rates=size.rates, seconds=size.seconds)


SECTIONS: Final[Mapping[str, Callable[[Stage, Figures, Size], None]]] = {
    "reads": lambda stage, figures, size: reads.measure(stage, figures, rounds=size.read_rounds),
    "saves": lambda stage, figures, size: saves.measure(stage, figures, saves=size.saves),
    "loose indexes": lambda stage, figures, _: indexed.measure(stage, figures),
    "write-behind": lambda stage, figures, size: write_behind.measure(
        stage, figures, amounts=size.amounts, rounds=size.worker_rounds
    ),
    "filling": lambda stage, figures, size: filling.measure(stage, figures, rounds=size.fill_rounds),
    "freshness": _freshness,
}
