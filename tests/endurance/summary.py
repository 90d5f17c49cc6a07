"""What a soak found, and telling it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

import click

from tests.endurance.writers import Written

Show = Callable[[int, str], None]
"""``show(operations so far, more)``"""

TOLD: Final = ("flushes", "flushed_runs", "rows_raised", "rows_lowered", "rows_removed", "handed_on", "retries",
               "failures", "released", "healed", "set_aside", "dropped", "undelivered",
               "save_failures", "drift")  # fmt: skip
"""Counters of the inbox that are told, in this order."""


@dataclass
class Summary:
    written: Written
    disasters: Counter[str]
    writing_s: float
    counters: Counter[str] = field(default_factory=Counter)
    """Of all inboxes: each time one was emptied its counters began anew."""
    by_the_workers_s: float = 0.0
    """Seconds after the last write until workers had left nothing pending or claimed."""
    settling_s: float = 0.0
    healed_at_the_end: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    differences: list[str] = field(default_factory=list)
    drift: list[Any] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.written.unhandled or self.differences or self.drift)


def tell(found: Summary) -> None:
    written = found.written
    total = written.operations.total()
    click.echo()
    _line("operations", f"{total:,} in {found.writing_s:,.0f} s, {total / found.writing_s:,.0f}/s")
    _line("of them", _counts(written.operations))
    _line("ordinary saves", _durations(written.save_s))
    _line("disasters", f"{found.disasters.total()}: {_counts(found.disasters)}")
    _line("writers handled", _counts(written.handled))
    _line("pipeline", _counts(Counter({name: found.counters[name] for name in TOLD}), by_size=False))
    _line("afterwards", f"nothing pending or claimed after {found.by_the_workers_s:.1f} s")
    _line("", f"{found.healed_at_the_end} healed by the last sweeps; settled after {found.settling_s:.1f} s")
    _line("set aside", "; ".join(f"{run}: {why}" for run, why in found.set_aside.items()) or "none")
    _line("unhandled errors", str(len(written.unhandled)), bad=bool(written.unhandled))
    _line("oracle", f"{found.rows:,} rows, {len(found.differences)} differ (EXCEPT ALL, both ways)",
          bad=bool(found.differences))  # fmt: skip
    _line("verify", f"{len(found.drift)} differences", bad=bool(found.drift))
    for detail in (*written.unhandled[:10], *found.differences, *map(str, found.drift[:20])):
        click.echo(detail)
    click.secho("FAILED" if found.failed else "exact", bold=True, fg="red" if found.failed else "green")


def _line(what: str, text: str, *, bad: bool = False) -> None:
    click.secho(f"{what:>17}  {text}", fg="red" if bad else None)


def _counts(counts: Counter[str], *, by_size: bool = True) -> str:
    items = counts.most_common() if by_size else counts.items()
    return ", ".join(f"{name} {count:,}" for name, count in items) or "nothing"


def _durations(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "none"
    cuts = quantiles(seconds, n=1000)
    return ", ".join(
        f"{name} {value * 1000:,.1f} ms"
        for name, value in (("p50", cuts[499]), ("p99", cuts[989]), ("p99.9", cuts[998]), ("longest", max(seconds)))
    )
