"""``python -m benchmarks``: measure everything, and write docs/benchmarks.md. See ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from benchmarks.figures import Figure, Figures
from demo.host import ROOT, end_with_parent, refuse_interruption
from demo.narration import heading, line

PAGE: Final = ROOT / "docs" / "benchmarks.md"
RESULTS: Final = "benchmarks.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured. ``runs`` is the length of the history."""

    runs: int
    rounds: int
    saves: int
    flushed: int
    held_s: float
    rates: tuple[int, ...]
    seconds: float


SIZES: Final[Mapping[str, Size]] = {
    "quick": Size(runs=100_000, rounds=10, saves=200, flushed=8_000, held_s=5, rates=(10, 350), seconds=5),
    "full": Size(
        runs=7_400_000, rounds=40, saves=1_000, flushed=40_000, held_s=600, rates=(1, 10, 100, 350, 700), seconds=15
    ),
}


@click.command(context_settings={"show_default": True, "max_content_width": 110})
@click.option("--size", default="quick", type=click.Choice(list(SIZES)), help="quick: minutes; full: the page.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; docs/ if full, else a temporary place.")
@click.option("--only", multiple=True, help="Only this section; may be repeated.")
@click.option("--durable", is_flag=True, help="With fsync, full_page_writes and autovacuum on.")
def benchmarks(size: str, out: Path | None, only: tuple[str, ...], *, durable: bool) -> None:
    """How fast it is, beside its rivals and the limits, on servers of its own that are gone afterwards."""
    end_with_parent()
    from benchmarks.stage import DURABLE, POSTGRESQL, staged

    started = time.monotonic()
    with staged(SIZES[size].runs, DURABLE if durable else POSTGRESQL) as stage:
        figures = Figures(stage.runs)
        for name, measure in _sections(SIZES[size]).items():
            if not only or name in only:
                measure(stage, figures)
        refuse_interruption()
    if not only:
        figures.every += _durable()
    _write(size, figures, out or (PAGE.parent if size == "full" and not only else Path(tempfile.mkdtemp())), started)


def _sections(size: Size) -> dict[str, Callable[..., None]]:
    """What is measured, in which order. Imported only now, when Django is set up."""
    from benchmarks import filling, flushes, freshness, reads, rivals, saves, statements

    return {
        "reads": lambda stage, figures: reads.measure(stage, figures, rounds=size.rounds),
        "saves": lambda stage, figures: saves.measure(stage, figures, saves=size.saves),
        "statements": statements.measure,
        "flushes": lambda stage, figures: flushes.measure(
            stage, figures, runs=size.flushed, rounds=2, held_s=size.held_s
        ),
        "freshness": lambda stage, figures: freshness.measure(stage, figures, rates=size.rates, seconds=size.seconds),
        "rivals": rivals.measure,
        "filling": lambda stage, figures: filling.measure(stage, figures, rounds=1),
    }


def _durable() -> list[Figure]:
    """What costs writers and flushes, once more on a shorter history, with all on that is off otherwise."""
    with tempfile.TemporaryDirectory() as out:
        sections = [part for name in ("saves", "statements", "flushes") for part in ("--only", name)]
        subprocess.run([sys.executable, "-m", "benchmarks", "--durable", *sections, "--out", out], check=True)
        measured = Figures.from_json(json.loads((Path(out) / RESULTS).read_text())["figures"])
    return [replace(each, section="durable", case=f"{each.section}: {each.case}") for each in measured.every]


def _write(size: str, figures: Figures, out: Path, started: float) -> None:
    from benchmarks import goals, page
    from benchmarks.machine import described

    results = {"size": size, "seconds": time.monotonic() - started, "machine": described()}
    (out / RESULTS).write_text(json.dumps({**results, "figures": figures.as_json()}, indent=1))
    (out / PAGE.name).write_text(page.written(results, figures))
    heading("Goals")
    for judged in goals.judged(figures):
        line(str(judged))
    line(f"\n{out / PAGE.name}")


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
