"""``make soak``: writers, workers and servers under random killing; at the end the table must be exact.

``python -m tests.endurance.soak --operations 200000``. Everything runs in a temporary directory on servers of its own
and is ended with it. Exit status 1 if the table is not exact, or a writer met an error that no host would expect.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click

from demo import scratch
from demo.host import end_with_parent, refuse_interruption
from tests.endurance import summary
from tests.endurance.stage import Stage, stage
from tests.endurance.summary import Summary
from tests.endurance.writers import Writers
from tests.waiting import until

TICK_S = 0.1
LINES = 10
"""Lines about the progress where there is no terminal to draw a bar on."""

QUIET_WITHIN_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    seed: int
    operations: int
    rate: float
    writers: int
    workers: int
    disaster_every: float

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.operations:,} operations by {self.writers} writers, {self.workers} workers, "
            f"a disaster every {self.disaster_every:g} s"
        )


@click.command(help=__doc__)
@click.option("--operations", default=200_000, show_default=True, help="Writes that must succeed.")
@click.option("--rate", default=0.0, help="Writes a second, all writers together; as fast as it goes if left out.")
@click.option("--writers", default=4, show_default=True, help="Processes that write.")
@click.option("--workers", default=3, show_default=True, help="Celery workers, of two processes each.")
@click.option("--disaster-every", default=4.0, show_default=True, help="Mean seconds between disasters.")
@click.option("--seed", type=int, help="Of all random choices; their timing is the machine's.")
@click.option("--directory", type=click.Path(path_type=Path), help="Keep all files here instead of removing them.")
def main(directory: Path | None, seed: int | None, **options: Any) -> None:
    end_with_parent()
    plan = Plan(seed=random.randrange(10**6) if seed is None else seed, **options)
    click.echo(plan)
    with ExitStack() as stack:
        place = directory or stack.enter_context(scratch.directory())
        place.mkdir(exist_ok=True, parents=True)
        installed = stack.enter_context(stage(place, workers=plan.workers))
        stack.callback(refuse_interruption)  # while all of it is ended
        found = _soak(installed, plan, place / "writers")
    summary.tell(found)
    sys.exit(found.failed)


def _soak(stage: Stage, plan: Plan, directory: Path) -> Summary:
    from django.db import connections

    from tests.endurance import hosting
    from tests.endurance.disasters import Disasters

    writers = Writers(directory, count=plan.writers, operations=plan.operations, rate=plan.rate, seed=plan.seed)
    hosting.populate()
    connections.close_all()  # the database will be restarted
    stage.until_ready()
    disasters = Disasters(stage, plan.disaster_every, random.Random(plan.seed))
    started_s = time.monotonic()
    with writers.running(), _progress(plan.operations) as show:
        while not writers.done:
            disasters.tick()
            show(writers.operations(), f"{sum(disasters.counts.values())} disasters")
            time.sleep(TICK_S)
        show(writers.operations(), "")
    found = Summary(written=writers.outcome(), disasters=disasters.counts, writing_s=time.monotonic() - started_s)
    disasters.put_right()
    _settle(found, stage)
    disasters.remember_counters()
    found.counters = disasters.seen
    return found


def _settle(found: Summary, stage: Stage) -> None:
    """The workers finish what waits, the sweep heals until there is nothing left to heal; then table and runs are
    compared, by the oracle and by the audit."""
    from demo import oracle
    from tests.endurance import settling
    from tests.oracle import idle
    from workflows_tasks import operations

    def quiet() -> bool:
        """Nothing is pending or claimed. Whoever was started before the broker was back may give up only now."""
        stage.start_celery()
        return idle()

    started_s = time.monotonic()
    until(quiet, within_s=QUIET_WITHIN_S)
    found.by_the_workers_s = time.monotonic() - started_s
    found.set_aside = {each.run: each.why for each in operations.aside()}
    operations.retry_aside()
    found.rows = oracle.expected_rows()
    found.healed_at_the_end = settling.swept(found.rows)
    until(quiet, within_s=QUIET_WITHIN_S)
    found.differences = [str(difference) for difference in oracle.differences()]
    found.drift = _verified()
    found.settling_s = time.monotonic() - started_s


def _verified() -> list[dict[str, str]]:
    """What ``manage.py recent_workflows verify`` finds."""
    from django.core.management import call_command

    out = StringIO()
    with suppress(SystemExit):  # that of drift
        call_command("recent_workflows", "verify", "--json", stdout=out)
    drift: list[dict[str, str]] = json.loads(out.getvalue())["drift"]
    return drift


@contextmanager
def _progress(length: int) -> Iterator[summary.Show]:
    """A bar with rate and remaining time on a terminal, otherwise a line now and then."""
    started_s, shown = time.monotonic(), 0

    def text(done: int, more: str) -> str:
        return f"{done / (time.monotonic() - started_s):,.0f}/s  {more}"

    if not sys.stdout.isatty():

        def line(done: int, more: str) -> None:
            nonlocal shown
            if done * LINES // length > shown or (done >= length and shown < LINES):
                shown = done * LINES // length
                click.echo(f"{time.monotonic() - started_s:6.0f} s  {done:>9,} operations  {text(done, more)}")

        yield line
        return
    with click.progressbar(
        length=length, label="soaking", show_pos=True, show_eta=True, item_show_func=lambda item: item
    ) as bar:
        yield lambda done, more: bar.update(done - bar.pos, text(done, more))


if __name__ == "__main__":
    main()
