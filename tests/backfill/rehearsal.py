"""A whole installation in which everything fails while a backfill runs: ``python -m tests.backfill.rehearsal [RUNS]``.

Servers of its own, writers that save, move, hide and delete, through Django and in SQL. A worker is killed, the
database crashes, the broker comes back empty, beat is killed, and a worker is stopped past its lease, all before the
backfill is through. At the end it has succeeded, its progress is exactly all, and an independent query over the runs
agrees with the table.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.chaos.stage import Stage, stage
from tests.nodes import ProcessContainer, WorkerContainer
from tests.waiting import until

RUNS: Final = 60_000
CHUNKS: Final = 30
WITHIN_S: Final = 60.0
"""Seconds without any progress."""
LAST: Final = 3_000
"""Characters of each process's log that are printed when it does not go on."""

LEASE_S: Final = 3.0
QUEUE: Final = "rehearsal-backfill"
BRISK: Final[dict[str, Any]] = {
    "TICK_PERIOD_S": 0.5, "BACKFILL_LEASE_S": LEASE_S,
    "BACKFILL_QUEUE": QUEUE, "BACKFILL_THROTTLE": "tests.backfill.rehearsal.takes_its_time",
    "BACKFILL_STOP_S": 60.0, "SAVE_TIMEOUT_S": 5.0, "BROKER_TIMEOUT_S": 5.0,
}  # fmt: skip

Failures = list[tuple[str, Callable[[], object]]]


ALL_FAILED: Final = "REHEARSAL_ALL_FAILED"
"""Environment variable: the path of a file that is there once everything has failed."""


def takes_its_time() -> None:
    """Asked before each transaction: so short a history must last until all has failed."""
    if not Path(os.environ.get(ALL_FAILED, "nowhere")).exists():
        time.sleep(0.1)


def main(runs: int) -> int:
    directory = Path(tempfile.mkdtemp(prefix="recent-workflows-rehearsal-"))
    os.environ[ALL_FAILED] = str(directory / "all-failed")
    directory.chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        on = stack.enter_context(stage(directory, workers=1, settings=BRISK))
        fillers: list[ProcessContainer] = [
            WorkerContainer(directory / f"filler-{n}", queue=QUEUE, env=on.env) for n in (1, 2)
        ]
        try:
            for filler in fillers:
                filler.launch()
            on.start_celery()
            until(lambda: all(filler.ready() for filler in fillers), within_s=60)
            return _rehearsed(on, fillers, runs)
        except Exception:
            for container in [*on.celery, *fillers]:
                _say(f"--- {container.name}, {container.status}\n{container.logs()[-LAST:]}")
            raise
        finally:
            for filler in fillers:
                filler.teardown()


def _rehearsed(on: Stage, fillers: list[ProcessContainer], runs: int) -> int:
    from backfill import control
    from demo import history, oracle
    from demo.shape import shapes
    from tests.oracle import is_idle
    from workflows_tasks.projection import backlog

    def supervised() -> bool:
        """Celery gives up now and then when its broker goes; a supervisor starts it again."""
        for container in [*on.celery, *fillers]:
            if container.status != "running":
                container.launch()
        return True

    every = shapes(runs)
    history.load(every)
    history.vacuum()
    enough = threading.Event()
    writer = threading.Thread(target=_write, args=(every, enough))
    writer.start()
    seen = [0.0]
    try:
        backfill = control.start(chunk_size=runs // CHUNKS, concurrency=3, actor="the rehearsal")
        for what, fail in _failures(on, fillers):
            until(
                lambda: supervised() and _percent(backfill.pk) > seen[-1] + 1,
                within_s=WITHIN_S, progress=lambda: _percent(backfill.pk),
            )  # fmt: skip
            fail()
            seen.append(_percent(backfill.pk))
            _say(f"{what:<40} at {seen[-1]:5.1f} %")
        Path(os.environ[ALL_FAILED]).touch()
        until(
            lambda: supervised() and _again(lambda: control.get(backfill.pk)).has_ended,
            within_s=WITHIN_S, progress=lambda: _done(backfill.pk),
        )  # fmt: skip
    finally:
        enough.set()
        writer.join()
    until(
        lambda: supervised() and is_idle(),
        within_s=WITHIN_S,
        progress=lambda: [each.pending for each in backlog.status()],
    )
    progress, differences = control.status(backfill.pk), oracle.differences()
    status, fill = progress.backfill.status, progress.fill
    _say(f"{status}: {fill.done:,} of {fill.planned:,} runs, {fill.chunks}; drift {progress.verify.drift}")
    _say(f"differences: {len(differences)}; all failures before its end: {seen[-1] < 100}")
    for each in differences:
        _say(f"  {each}")
    is_whole = fill.done == fill.planned and status == "succeeded" and progress.verify.drift == 0
    return 0 if is_whole and not differences and seen[-1] < 100 else 1


def _failures(on: Stage, fillers: list[ProcessContainer]) -> Failures:
    def kill() -> None:
        fillers[0].kill()
        fillers[0].launch()

    def crash_database() -> None:
        on.postgresql.stop(signal.SIGQUIT)  # sessions are cut, and it recovers
        on.postgresql.start()

    def empty_broker() -> None:
        on.broker.stop()
        on.broker.start()

    def stop_past_the_lease() -> None:
        os.killpg(fillers[1].pid, signal.SIGSTOP)
        threading.Timer(1.5 * LEASE_S, os.killpg, [fillers[1].pid, signal.SIGCONT]).start()

    return [
        ("a worker killed", kill),
        ("the database crashed", crash_database),
        ("the broker killed, and back empty", empty_broker),
        ("beat killed", on.beat.kill),
        ("a worker stopped past its lease", stop_past_the_lease),
    ]


def _percent(backfill_id: int) -> float:
    from backfill import control

    progress = _again(lambda: control.status(backfill_id))
    assert progress.fill.done <= progress.fill.planned
    return float(progress.fill.percent)


def _done(backfill_id: int) -> tuple[int, int]:
    """Runs filled and verified."""
    from backfill import control

    progress = _again(lambda: control.status(backfill_id))
    return progress.fill.done, progress.verify.done


def _write(every: Any, enough: threading.Event) -> None:
    from demo.executions import Executions, other_program

    executions = Executions(every, draw=random.Random(3))

    def sql() -> None:
        with other_program() as other:
            executions.write_sql(other)

    while not enough.wait(1 / 60):
        _again(executions.save)
        if random.random() < 0.1:
            _again(sql)
    _disconnect()


def _again(act: Callable[[], Any]) -> Any:
    """What ``act`` returns, as soon as the database is there: a session from before its crash is of no use."""
    from django.db import Error, connection

    driver: Any = connection
    for _ in range(100):
        try:
            return act()
        except (Error, driver.Database.Error):
            _disconnect()
            time.sleep(0.1)
    return act()


def _disconnect() -> None:
    from django.db import connections

    connections.close_all()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS))
