"""Writes docs/benchmarks.md: the goals, and a table for each section."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from benchmarks import goals
from benchmarks.figures import Figure, Figures

TITLES: Final = {
    "read": "Reads",
    "fresh": "Fresh pages",
    "save": "Saves",
    "statement": "Statements over many runs",
    "recompute": "A pass or a walk",
    "flush": "Flushes",
    "held open": "Beside a transaction that is held open",
    "freshness": "From commit to visible",
    "rival": "Simpler ways",
    "backfill": "Filling history",
    "durable": "With fsync, full_page_writes and autovacuum on, and 100,000 runs",
}
"""In the order of the page."""

CAVEATS: Final = """
## Caveats

- Everything runs on one machine, so servers, workers and writers share its cores, and Redis is on loopback: with a
  network between, a round trip costs more and a trigger costs the same.
- `fsync`, `full_page_writes` and autovacuum are off, except in the last table: a commit waits for no disk.
- The history is made, with the skew of a real platform's.
- `task.delay()` is sent to Redis; RabbitMQ takes longer.
"""


def written(results: dict[str, Any], figures: Figures) -> str:
    """The page."""
    return "\n".join([*_head(results, figures), *_goals(figures), *_sections(figures), CAVEATS])


def _head(results: dict[str, Any], figures: Figures) -> Iterator[str]:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield "# Benchmarks\n"
    yield (
        f"Medians with quartiles, all contenders in turn, in one run of {results['seconds'] / 60:.0f} minutes: "
        f"`make bench SIZE={results['size']}`. {figures.runs:,} runs of history; {machine['cores']} cores "
        f"({machine['processor']}), {machine['memory GB']} GB, Python {machine['Python']}, {versions}.\n"
    )


def _goals(figures: Figures) -> Iterator[str]:
    yield from ("| goal | | measured | |", "|---|---|---|---|")
    for judged in goals.judged(figures):
        yield f"| {judged.what} | {judged.goal} | {judged.measured} | {judged.verdict} |"


def _sections(figures: Figures) -> Iterator[str]:
    order = list(TITLES)
    in_order = sorted(figures.every, key=lambda each: order.index(each.section))
    for section, of_section in groupby(in_order, key=lambda each: each.section):
        yield f"\n## {TITLES[section]}\n"
        yield from ("| case | | unit | median | quartiles |", "|---|---|---|--:|--:|")
        yield from map(_line, of_section)


def _line(figure: Figure) -> str:
    spread = f"{_number(figure.low)} – {_number(figure.high)}" if figure.count > 1 else ""
    return f"| {figure.case} | {figure.contender} | {figure.unit} | {_number(figure.median)} | {spread} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
