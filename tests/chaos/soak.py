"""``make soak``: writers, workers and servers under random killing; then the table must be exact, with the audit off.

``python -m tests.chaos.soak --operations 200000``. Everything runs on servers of its own in a temporary directory.
Exit status 1 if the table is not exact once the change log is empty.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from demo import scratch
from demo.host import end_with_parent, refuse_interruption
from tests.chaos.disasters import Disasters
from tests.chaos.stage import Stage, stage
from tests.commands import ROOT
from tests.waiting import until

SETTINGS: Final = {"FLUSH_WINDOW_S": 0.3, "TICK_PERIOD_S": 0.5, "FLUSH_TIME_LIMIT_S": 4.0, "PAUSE_S": 1.0}
LONGEST_PAUSE_S: Final = 4.0
"""Past the two seconds after which the server ends a flush's session that stands still."""

EMPTY_WITHIN_S: Final = 180.0
LINES: Final = 10


@dataclass
class Writers:
    """Processes that write; ``operations`` in all."""

    directory: Path
    count: int
    operations: int
    rate: float
    seed: int
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.directory.mkdir()
        for number in range(self.count):
            arguments = [self._file(number), -(-self.operations // self.count), self.rate / self.count]
            command = [sys.executable, "-m", "tests.chaos.writer", *map(str, arguments), str(self.seed + number)]
            with (self.directory / f"{number}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=log, stderr=subprocess.STDOUT)
                )
        try:
            yield
        finally:
            for process in self._processes:
                process.kill()
                process.wait()

    @property
    def is_done(self) -> bool:
        """All of them have ended. None may have failed."""
        codes = [process.poll() for process in self._processes]
        for number, code in enumerate(codes):
            if code:
                said = (self.directory / f"{number}.log").read_text()
                raise RuntimeError(f"a writer ended with {code}: {said[-3000:]}")
        return None not in codes

    def told(self) -> list[dict[str, Any]]:
        found = []
        for number in range(self.count):
            with suppress(FileNotFoundError):
                found.append(json.loads(self._file(number).read_text()))
        return found

    def done(self) -> int:
        return sum(each["done"] for each in self.told())

    def _file(self, number: int) -> Path:
        return self.directory / f"{number}.json"


@dataclass
class Outcome:
    """What came of it."""

    operations: int = 0
    writing_s: float = 0.0
    emptying_s: float = 0.0
    rows: int = 0
    disasters: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    """Writes that the database did not commit."""
    quarantined: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        return bool(self.differences or self.quarantined)

    def __str__(self) -> str:
        lines = [
            f"{self.operations:,} operations in {self.writing_s:.0f} s; log empty {self.emptying_s:.1f} s after",
            f"{self.refused:,} writes did not commit; disasters: {self.disasters}",
            f"{len(self.quarantined)} in quarantine {self.quarantined[:3]}",
            f"{len(self.differences)} of {self.rows:,} rows differ {self.differences[:5]}",
            "NOT EXACT" if self.has_failed else "exact",
        ]
        return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--operations", default=200_000, show_default=True, help="Writes that must commit.")
@click.option("--rate", default=0.0, help="Writes a second, all writers together; as fast as it goes if left out.")
@click.option("--writers", default=4, show_default=True, help="Processes that write.")
@click.option("--workers", default=3, show_default=True, help="Celery workers, of two processes each.")
@click.option("--disaster-every", default=4.0, show_default=True, help="Mean seconds between disasters.")
@click.option("--seed", type=int, help="Of all random choices; their timing is the machine's.")
@click.option("--directory", type=click.Path(path_type=Path), help="Keep all files here instead of removing them.")
def main(
    operations: int, rate: float, writers: int, workers: int, disaster_every: float, seed: int | None,
    directory: Path | None,
) -> None:  # fmt: skip
    end_with_parent()
    seed = random.randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}: {operations:,} operations by {writers} writers, {workers} workers")
    with ExitStack() as stack:
        place = directory or stack.enter_context(scratch.directory())
        place.mkdir(exist_ok=True, parents=True)
        running = stack.enter_context(stage(place, workers=workers, settings=SETTINGS))
        stack.callback(refuse_interruption)  # while all of it is ended
        writing = Writers(place / "writers", writers, operations, rate, seed)
        outcome = soak(running, writing, Disasters(running, disaster_every, LONGEST_PAUSE_S, random.Random(seed)))
    click.echo(outcome)
    sys.exit(outcome.has_failed)


def soak(running: Stage, writing: Writers, disasters: Disasters) -> Outcome:
    from django.db import connections

    from tests.chaos.writer import populate

    populate()
    connections.close_all()  # the database will be restarted
    running.start_celery()
    outcome = Outcome()
    started_s, shown = time.monotonic(), 0
    with writing.running():
        while not writing.is_done:
            disasters.tick()
            if writing.done() * LINES // writing.operations > shown:
                shown = writing.done() * LINES // writing.operations
                click.echo(f"{time.monotonic() - started_s:6.0f} s {writing.done():>9,} operations")
            time.sleep(0.1)  # the clock of the disasters
    outcome.writing_s = time.monotonic() - started_s
    outcome.operations, outcome.disasters = writing.done(), dict(disasters.counts)
    outcome.refused = sum(each["refused"] for each in writing.told())
    disasters.put_right()
    _settle(outcome, running)
    return outcome


def _settle(outcome: Outcome, running: Stage) -> None:
    """The workers empty the log; then table and runs are compared, by the oracle and by ``compare``."""
    from demo import oracle
    from tests.oracle import is_idle
    from workflows_tasks import history
    from workflows_tasks.projection import backlog

    def is_empty() -> bool:
        """Nothing waits. Whoever was started before the broker was back may give up only now."""
        running.replace_the_ended()
        return is_idle()

    started_s = time.monotonic()
    until(is_empty, within_s=EMPTY_WITHIN_S)
    outcome.emptying_s = time.monotonic() - started_s
    outcome.rows = oracle.expected_rows()
    outcome.differences = [str(each) for each in oracle.differences()]
    outcome.differences += [str(each.as_json()) for each in history.compare(history.EVERYWHERE)]
    outcome.quarantined = [str(each) for each in backlog.quarantined(20)]


if __name__ == "__main__":
    main()
