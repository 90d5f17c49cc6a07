"""The writing processes of a soak, and what they reported."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.servers import Process
from tests.commands import ROOT


@dataclass
class Written:
    """What all writers did together."""

    operations: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    """Errors that a host expects: the database away, an object gone."""
    unhandled: list[str] = field(default_factory=list)
    save_s: list[float] = field(default_factory=list)
    """How long each ordinary save took."""


class Writers:
    """Started on entering ``running``; each ends when it has made its part of the operations."""

    def __init__(self, directory: Path, *, count: int, operations: int, rate: float, seed: int) -> None:
        directory.mkdir()
        self._reports = [directory / f"{number}.json" for number in range(count)]
        each = [str(-(-operations // count)), str(rate / count)]
        self._processes = [
            Process(
                [sys.executable, "-m", "tests.endurance.writing", f"{seed}-{number}", *each, str(report)],
                report.with_suffix(".log"),
                env={"PYTHONPATH": str(ROOT)},
            )
            for number, report in enumerate(self._reports)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            for process in self._processes:
                process.launch()
            yield
        finally:
            for process in self._processes:
                process.stop(within_s=2)

    @property
    def done(self) -> bool:
        return not any(process.running for process in self._processes)

    def operations(self) -> int:
        return sum(told.get("operations", 0) for told in self._told())

    def outcome(self) -> Written:
        written = Written()
        for process, told in zip(self._processes, self._told(), strict=True):
            written.operations.update(told.get("counts", {}))
            written.handled.update(told.get("handled", {}))
            written.save_s += told.get("save_s", [])
            written.unhandled += told.get("unhandled", [])
            if "counts" not in told:
                written.unhandled.append(f"a writer ended early:\n{process.log.read_text(errors='replace')[-2000:]}")
        return written

    def _told(self) -> list[dict[str, Any]]:
        return [json.loads(report.read_text()) if report.exists() else {} for report in self._reports]
