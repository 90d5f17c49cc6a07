"""The page: tables, plots and words around them, from the figures of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks import goals, growth, prose
from benchmarks.figures import Figure, Figures, one, where

SECTIONS: Final = ("Reads", "Saves", "Write-behind", "Freshness", "Backfill", "Growth")


def written(results: Any, scales: Sequence[Figures]) -> str:
    """The whole page, as Markdown."""
    largest = scales[-1]
    parts = [
        prose.OPENING.format(runs=largest.runs, size=results["size"], minutes=results["seconds"] / 60),
        _machine(results["machine"]),
        "## Goals\n", _goals(scales), prose.CHANGED,
        "## Reads\n", prose.READS, "![Reads](images/reads.svg)\n", *_reads(largest), _storage(largest),
        "## Saves\n", prose.SAVES, "![Saves](images/saves.svg)\n", *_saves(largest),
        "## Write-behind\n", prose.WRITE_BEHIND, "![Write-behind](images/write-behind.svg)\n", *_write_behind(largest),
        "## Freshness\n", prose.FRESHNESS, "![Freshness](images/freshness.svg)\n", *_freshness(largest),
        "## Backfill\n", prose.BACKFILL, *_backfill(largest),
        "## Growth\n", *([prose.GROWTH, "![Growth](images/growth.svg)\n"] if len(scales) > 1 else []),
        *_growth(scales), growth.on_paper(largest),
        prose.CAVEATS,
    ]  # fmt: skip
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def _machine(machine: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = ", ".join(f"`{name} = {value}`" for name, value in machine["PostgreSQL settings"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory GB']} GB; {machine['system']}; "
        f"Python {machine['Python']}; {versions}. PostgreSQL with {settings}. Everything, servers, workers and the "
        f"measuring itself, shares these cores; the load average at the end was {machine['load average'][0]}, so "
        f"{'other work went on beside' if machine['load average'][1] > 1.5 * machine['cores'] else 'nothing else ran'}."
        "\n"
    )


def _table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows]) + "\n"


def _goals(scales: Sequence[Figures]) -> str:
    rows = [
        (judged.what, judged.goal, judged.measured, f"**{judged.verdict}**", "" if judged.met else judged.why)
        for judged in goals.judged(scales)
    ]
    return _table(("", "goal", "measured", "", "what stands in the way"), rows)


def _said(figure: Figure | None) -> str:
    """The median, with the quartiles where there are any."""
    if figure is None:
        return "–"
    spread = f" ({_number(figure.low)}–{_number(figure.high)})" if figure.count > 1 else ""
    return f"{_number(figure.median)}{spread}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _pivot(figures: Sequence[Figure], corner: str, *, unit: str = "") -> str:
    """Contenders down, cases across."""
    cases = list(dict.fromkeys(each.case for each in figures))
    names = list(dict.fromkeys(each.contender for each in figures))
    found = {(each.contender, each.case): each for each in figures}
    rows = [[name, *(_said(found.get((name, case))) for case in cases)] for name in names]
    return _table([f"{corner}{', ' + unit if unit else ''}", *cases], rows)


def _reads(figures: Figures) -> Iterator[str]:
    for place in ("heaviest", "middle", "empty"):
        of_place = [
            each for each in where(figures.every, section="read", unit="ms") if each.case.startswith(f"{place},")
        ]
        if of_place:
            yield _pivot(of_place, "milliseconds")
    wrong = figures.notes.get("newest 200", {})
    for limit, found in wrong.items():
        yield (
            f"The newest-200 scan shows other workflows, or another order, than there should be for {limit} rows in "
            f"{100 * found['workspaces']:.1f} % of {found['looked at']:,} workspaces, and on "
            f"{100 * found['pages']:.1f} % of home pages if a workspace is looked at as often as it runs.\n"
        )


def _storage(figures: Figures) -> str:
    storage = figures.notes.get("storage")
    if not storage:
        return ""
    rows = [
        (
            name,
            f"{found['bytes'] / 1e6:,.0f} MB",
            f"{found['built s']:.1f} s" if "built s" in found else "see backfill",
            f"{found['refreshed s']:.1f} s each time" if "refreshed s" in found else "see saves",
        )
        for name, found in storage.items()
        if name != "history"
    ]
    history = storage["history"]["bytes"] / 1e6
    return f"What each keeps, beside {history:,.0f} MB of runs and their indexes:\n\n" + _table(
        ("", "size", "built in", "kept up in"), rows
    )


def _saves(figures: Figures) -> Iterator[str]:
    found = list(where(figures.every, section="save"))
    names = [each.contender for each in where(found, case="total", unit="µs")]
    units = ("µs", "µs", "SQL statements added", "Redis round trips added", "messages added")
    cases = ("added", "added p99", "counts per save", "counts per save", "counts per save")
    rows = []
    for name in names:
        total = one(found, case="total", contender=name, unit="µs")
        p99 = one(found, case="total p99", contender=name, unit="µs")
        added = [
            _said(one(found, case=case, contender=name, unit=unit)) for case, unit in zip(cases, units, strict=True)
        ]
        rows.append([name, _said(total), _said(p99), *added])
    header = ("", "p50 µs", "p99 µs", "added p50 µs", "to p99 µs", "SQL statements", "round trips to Redis", "messages")
    yield _table(header, rows)
    wal = [each for each in found if each.case.startswith("WAL") and each.unit == "bytes"]
    yield _pivot(wal, "WAL, bytes a save")


def _write_behind(figures: Figures) -> Iterator[str]:
    for unit, corner in (
        ("runs/s", "runs a second"), ("rows written/run", "rows written a run"), ("messages/run", "messages a run"),
    ):  # fmt: skip
        yield _pivot(list(where(figures.every, section="write-behind", unit=unit)), corner)


def _freshness(figures: Figures) -> Iterator[str]:
    found = list(where(figures.every, section="freshness"))
    cases = [case for case in dict.fromkeys(each.case for each in found) if case != "highest rate"]
    units = ("p50 s", "p95 s", "p99 s", "max s", "saves/s", "messages/save")
    rows = [[case, *(_said(one(found, case=case, unit=unit)) for unit in units)] for case in cases]
    yield _table(("", "p50 s", "p95 s", "p99 s", "longest s", "saves/s achieved", "flush messages a save"), rows)
    highest = one(found, case="highest rate")
    if highest:
        yield f"The highest of these rates that held was {highest.median:,.0f} saves a second.\n"


def _backfill(figures: Figures) -> Iterator[str]:
    found = list(where(figures.every, section="backfill"))
    rows = [
        (
            each.contender,
            _said(each),
            f"{figures.runs / each.median:,.0f}",
            _said(one(found, case=each.case, contender=each.contender, unit="× one statement")),
            "" if each.case == "all of history" else each.case.removeprefix("all of history, "),
        )
        for each in found
        if each.unit == "s"
    ]
    yield _table(("", "seconds", "runs/s", "× one statement", ""), rows)
    index = figures.notes.get("advised index")
    if index:
        yield f"The index was made in {index['made s']:.1f} s and has {index['bytes'] / 1e6:,.0f} MB.\n"
    for name, chunks in figures.notes.get("chunks", {}).items():
        low, middle, high = chunks["quartiles s"]
        yield (
            f"{name[0].upper()}{name[1:]}: {chunks['count']} chunks of {chunks['runs']:,} runs together, which is what "
            f"{'' if chunks['runs'] == chunks['counted'] else 'NOT '}`COUNT(*)` says, the largest of "
            f"{chunks['largest'] / chunks['target']:.2f} × the {chunks['target']:,} asked for; their transactions took "
            f"{middle:.2f} s ({low:.2f}–{high:.2f}), the longest {chunks['longest s']:.2f} s together; a worker "
            f"process had {chunks['worker MB']:.0f} MB at most.\n"
        )


def _growth(scales: Sequence[Figures]) -> Iterator[str]:
    rows = [
        [label, *(_said(one(scale.every, **wanted)) for scale in scales)] for label, wanted in growth.FIGURES.items()
    ]
    yield _table(["", *(f"{scale.runs / 1e6:.1f} M runs" for scale in scales)], rows)
