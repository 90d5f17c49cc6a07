"""What was measured, as a flat list: every figure says of whom, in which case, in which unit, and how it spread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some values with the quartiles around it. ``runs`` is the length of history they were taken at."""

    runs: int
    section: str
    case: str
    contender: str
    unit: str
    median: float
    low: float
    high: float
    count: int


@dataclass(slots=True)
class Figures:
    """The figures of one scale."""

    runs: int
    every: list[Figure] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """What is no figure: plans, histograms, sizes."""

    def add(self, section: str, case: str, contender: str, unit: str, values: Sequence[float]) -> Figure:
        """Keep the median and the quartiles of ``values``."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        figure = Figure(self.runs, section, case, contender, unit, median(values), low, high, len(values))
        self.every.append(figure)
        return figure

    def as_json(self) -> dict[str, Any]:
        return {"runs": self.runs, "figures": list(map(asdict, self.every)), "notes": self.notes}

    @classmethod
    def from_json(cls, raw: Any) -> Figures:
        return cls(raw["runs"], [Figure(**each) for each in raw["figures"]], raw["notes"])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json()))

    @classmethod
    def load(cls, path: Path) -> Figures:
        return cls.from_json(json.loads(path.read_text()))


def ratios(values: Sequence[float], limits: Sequence[float]) -> list[float]:
    """Each value by the limit of the same round: what slowed a round down slowed both."""
    return [value / limit for value, limit in zip(values, limits, strict=False)]


def where(figures: Iterable[Figure], **wanted: object) -> Iterator[Figure]:
    """Those whose attributes are as wanted."""
    for figure in figures:
        if all(getattr(figure, name) == value for name, value in wanted.items()):
            yield figure


def one(figures: Iterable[Figure], **wanted: object) -> Figure | None:
    """The figure that is as wanted, if it was taken."""
    return next(where(figures, **wanted), None)
