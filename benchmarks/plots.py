"""The plots of the page: few, small, legible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt  # the backend first

from benchmarks.figures import Figure, Figures, where

OURS: Final = "#1f6f54"
OTHERS: Final = "#b9bec6"
LIMIT: Final = "#d99a2b"

mpl.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "benchmarks",
    "axes.titlesize": 10, "axes.titlelocation": "left", "figure.dpi": 110,
})  # fmt: skip


def draw(scales: Sequence[Figures], directory: Path) -> None:
    """Write each plot as SVG into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    largest = scales[-1]
    _bars(
        list(where(largest.every, section="read", case="heaviest, 4 rows, warm", unit="ms")),
        "4 rows of the heaviest workspace, milliseconds", directory / "reads.svg", limit="primary key look-up",
    )  # fmt: skip
    _bars(
        list(where(largest.every, section="save", case="added", unit="µs")),
        "Added to a save, microseconds (median)", directory / "saves.svg", limit="a PING",
    )  # fmt: skip
    _write_behind(largest, directory / "write-behind.svg")
    _lags(largest, directory / "freshness.svg")
    _growth(scales, directory / "growth.svg")


def _colour(name: str, limit: str) -> str:
    return OURS if name.startswith(("ours", "recent")) else LIMIT if limit and name.startswith(limit) else OTHERS


def _bars(figures: Sequence[Figure], title: str, path: Path, *, limit: str = "") -> None:
    """One horizontal bar a contender, on a logarithmic scale if they differ by more than a factor of 20."""
    if not figures:
        return
    figures = sorted(figures, key=lambda figure: -figure.median)
    figure, axes = plt.subplots(figsize=(6.4, 0.4 * len(figures) + 0.8))
    middles = [each.median for each in figures]
    names = [each.contender for each in figures]
    bars = axes.barh(names, middles, color=[_colour(name, limit) for name in names], height=0.6)
    axes.bar_label(bars, labels=[f" {middle:,.0f}" if middle >= 100 else f" {middle:.2g}" for middle in middles])
    if max(middles) > 20 * min(middles) > 0:
        axes.set_xscale("log")
    axes.set_title(title)
    axes.margins(x=0.15)
    axes.get_xaxis().set_visible(False)
    axes.spines["bottom"].set_visible(False)
    _save(figure, path)


def _write_behind(figures: Figures, path: Path) -> None:
    found = list(where(figures.every, section="write-behind", unit="runs/s"))
    if not found:
        return
    keys = list(dict.fromkeys(each.case for each in found))
    names = list(dict.fromkeys(each.contender for each in found))
    figure, axes = plt.subplots(figsize=(7.6, 2.8))
    width = 0.8 / len(names)
    shades = {
        "ours": OURS,
        "one SQL statement": LIMIT,
        "one SQL statement a shard, each on a new connection": "#e8bf6c",
        "celery-batches": "#8a93a0",
        "a task per save": "#c9cdd3",
    }
    for position, name in enumerate(names):
        heights = [each.median for key in keys for each in found if (each.case, each.contender) == (key, name)]
        places = [n + (position - (len(names) - 1) / 2) * width for n in range(len(keys))]
        bars = axes.bar(places, heights, width * 0.92, label=name, color=shades.get(name, OTHERS))
        axes.bar_label(bars, labels=[_short(height) for height in heights], fontsize=7)
    axes.set_yscale("log")
    axes.set_xticks(range(len(keys)), [f"{key} keys" for key in keys])
    axes.set_title("Runs a second that one worker follows")
    axes.get_yaxis().set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.2)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    _save(figure, path)


def _short(value: float) -> str:
    return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"


def _lags(figures: Figures, path: Path) -> None:
    """Histograms of commit-to-visible, one below the other on the same axis."""
    lags: Mapping[str, Mapping[str, int]] = figures.notes.get("lags", {})
    if not lags:
        return
    figure, every = plt.subplots(len(lags), 1, figsize=(6.4, 0.75 * len(lags) + 0.8), sharex=True, squeeze=False)
    for axes, (case, counts) in zip(every[:, 0], lags.items(), strict=True):
        places = [float(place) for place in counts]
        axes.bar(places, list(counts.values()), width=0.1, align="edge", color=OURS)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.text(1.02, 0.4, case, transform=axes.transAxes)
    every[0, 0].set_title("From commit to visible, seconds")
    every[0, 0].set_xlim(left=0)
    _save(figure, path)


GROWING: Final[Sequence[tuple[str, str, Mapping[str, Any]]]] = (
    ("DISTINCT ON, ms", OTHERS, {"section": "read", "case": "heaviest, 4 rows, warm", "contender": "DISTINCT ON",
                                 "unit": "ms"}),
    ("our read, ms", OURS, {"section": "read", "case": "heaviest, 4 rows, warm", "contender": "recent_workflows()",
                            "unit": "ms"}),
    ("one INSERT … SELECT, s", "#8a93a0", {"section": "backfill", "case": "all of history",
                                           "contender": "one INSERT … SELECT", "unit": "s"}),
    ("our backfill, 2 at a time, s", LIMIT, {"section": "backfill", "case": "all of history",
                                             "contender": "ours, 2 at a time", "unit": "s"}),
)  # fmt: skip


def _growth(scales: Sequence[Figures], path: Path) -> None:
    if len(scales) < 2:
        return
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    for label, colour, wanted in GROWING:
        points = [(scale.runs, each.median) for scale in scales for each in where(scale.every, **wanted)]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("runs of history")
    axes.set_title("As history grows")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
