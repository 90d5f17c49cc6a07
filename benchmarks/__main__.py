"""``python -m benchmarks``: measure everything, draw the plots, write docs/benchmarks.md. See ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.figures import Figures
from demo.host import ROOT, end_with_parent, refuse_interruption
from demo.narration import heading, line

RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
NAMES = ("quick", "full")


@click.group(context_settings={"show_default": True, "max_content_width": 110})
def benchmarks() -> None:
    """How fast it is, beside its rivals and the limits, on servers of its own that are gone afterwards."""
    end_with_parent()


@benchmarks.command()
@click.option("--size", default="quick", type=click.Choice(NAMES), help="quick: two minutes; full: 25, and the page.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; docs/ if full, else a temporary place.")
def run(size: str, out: Path | None) -> None:
    """Measure. A full run writes docs/benchmarks.md; a quick one elsewhere, as it proves little."""
    from benchmarks.sizes import SIZES

    started = time.monotonic()
    out = out or (PAGE.parent if size == "full" else Path(tempfile.gettempdir()) / "recent-workflows-benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    measured = []
    for position, scale in enumerate(SIZES[size]):
        heading(f"A history of {scale.runs:,} runs ({position + 1} of {len(SIZES[size])})")
        measured.append(_in_a_process_of_its_own(size, position))
    (out / RESULTS.name).write_text(json.dumps(_results(size, measured, time.monotonic() - started), indent=1))
    _show(out)


@benchmarks.command()
@click.argument("size", type=click.Choice(NAMES))
@click.argument("position", type=int)
@click.argument("into", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="Only this section; may be repeated.")
def scale(size: str, position: int, into: Path, only: tuple[str, ...]) -> None:
    """Measure one scale of a size, and write its figures into a file. ``run`` starts this for each."""
    from benchmarks.sizes import SIZES
    from benchmarks.stage import staged

    asked = SIZES[size][position]
    with staged(asked.runs) as stage:
        from benchmarks.sections import SECTIONS  # Django is set up only now

        figures = Figures(stage.runs)
        for name, measure in SECTIONS.items():
            if not only or name in only:
                measure(stage, figures, asked)
        figures.save(into)
        refuse_interruption()


@benchmarks.command()
@click.argument("out", type=click.Path(path_type=Path), default=PAGE.parent)
def page(out: Path) -> None:
    """Write the page and the plots anew from the figures of an earlier run."""
    _show(out)


def _in_a_process_of_its_own(size: str, position: int) -> Figures:
    """Django is set up once a process, for one database."""
    with tempfile.TemporaryDirectory() as directory:
        into = Path(directory) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", "scale", size, str(position), str(into)]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise click.ClickException(f"Scale {position + 1} ended with status {code}; see above.")
        return Figures.load(into)


def _results(size: str, measured: list[Figures], seconds: float) -> dict[str, object]:
    from benchmarks.machine import described

    return {"size": size, "seconds": seconds, "machine": described(), "scales": [each.as_json() for each in measured]}


def _show(out: Path) -> None:
    from benchmarks import goals, page, plots

    results = json.loads((out / RESULTS.name).read_text())
    scales = [Figures.from_json(each) for each in results["scales"]]
    plots.draw(scales, out / "images")
    (out / PAGE.name).write_text(page.written(results, scales))
    heading("Goals")
    for judged in goals.judged(scales):
        line(str(judged))
    line()
    line(f"{out / PAGE.name}")


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
