"""A whole installation in which everything fails while a backfill runs: ``python -m tests.backfill.rehearsal``.

Servers of its own, writers that save, move, hide and delete; the database is restarted, the broker killed, beat and a
worker killed and another worker stopped past its lease, all before the backfill is through. Nothing is swept meanwhile.
At the end it has succeeded, its progress is exactly all, and an independent query over the runs agrees with the table,
but for what a commit that was cut off may have left unannounced.
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
from typing import Any

from tests.endurance import stage as stages
from tests.nodes import ProcessContainer, WorkerContainer
from tests.waiting import until

RUNS = 60_000
CHUNK = 1_500
SAVES_PER_S = 60.0
WITHIN_S = 150.0

CUT_OFF = 2
"""Most that a sweep may find at the end: the writer's one commit which the restart cut off, unannounced, with the row
that it made untrue."""

LAST = 3_000
"""Characters of each process's log that are told when it does not go on."""

LEASE_S = 3.0
QUEUE = "rehearsal-backfill"
BRISK: dict[str, Any] = {
    "BACKFILL_TICK_S": 0.5, "BACKFILL_LEASE_S": LEASE_S, "BACKFILL_STATEMENT_TIMEOUT_S": 2.0, "BACKFILL_TARGET_S": 0.02,
    "BACKFILL_QUEUE": QUEUE, "BACKFILL_THROTTLE": "tests.backfill.rehearsal.takes_its_time", "SWEEP_PERIOD_S": 1e6,
    # A busy moment is no outage: its ids would wait for later saves, and at the end there are none.
    "SAVE_TIMEOUT_S": 5.0, "BROKER_TIMEOUT_S": 5.0,
}  # fmt: skip


def takes_its_time() -> None:
    """Asked before each transaction: so short a history must last until all has failed."""
    time.sleep(0.05)


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="recent-workflows-rehearsal-"))
    directory.chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
    stages.SETTINGS.update(BRISK)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stage = stack.enter_context(stages.stage(directory, workers=1))
        workers = _fillers(directory)
        try:
            stage.until_ready()
            until(lambda: all(worker.ready() for worker in workers), within_s=60)
            return _rehearsed(stage, workers)
        except Exception:
            for container in [*stage.celery, *workers]:
                _say(f"--- {container.name}, {container.status}\n{container.logs()[-LAST:]}")
            raise
        finally:
            for worker in workers:
                worker.teardown()


def _fillers(directory: Path) -> list[ProcessContainer]:
    made: list[ProcessContainer] = [WorkerContainer(directory / f"filler-{n}", queue=QUEUE, env={}) for n in (1, 2)]
    for worker in made:
        worker.launch()
    return made


def _rehearsed(stage: stages.Stage, workers: list[ProcessContainer]) -> int:
    from backfill import runner
    from demo import history, oracle
    from demo.shape import shapes
    from tests.endurance.settling import swept
    from tests.oracle import idle

    every = shapes(RUNS)
    history.load(every)
    history.vacuum()
    enough = threading.Event()
    writer = threading.Thread(target=_write, args=(every, enough))
    writer.start()
    run = runner.start(chunk_size=CHUNK, parallel=3, actor="the rehearsal")
    seen: list[tuple[str, float]] = []
    for what, fail in _failures(stage, workers):
        _until_further(run.pk, seen, lambda: _supervised(stage, workers))
        fail()
        seen.append((what, _percent(run.pk)))
        _say(f"{what:<40} at {seen[-1][1]:5.1f} %")
    try:
        until(lambda: _supervised(stage, workers) and not _is_open(run.pk), within_s=WITHIN_S)
    finally:
        enough.set()
        writer.join()
    progress = _again(lambda: runner.status(run.pk))
    # A worker may have claimed what is not pending any more; if it died with it, until its lease is over.
    until(lambda: _supervised(stage, workers) and idle(), within_s=WITHIN_S)
    healed = swept(oracle.expected_rows())
    until(idle, within_s=WITHIN_S)
    differences = oracle.differences()
    _say(f"{progress.run.status}: {progress.fill.done:,} of {progress.fill.planned:,} runs, {progress.fill.chunks}")
    _say(f"differences: {len(differences)}; all failures before its end: {all(p < 100 for _, p in seen)}")
    _say(f"healed by the last sweeps: {healed}")
    for difference in differences:
        _say(f"  {difference}")
    for event in progress.run.events.all():
        _say(f"  {event}")
    whole = healed <= CUT_OFF and not differences
    complete = progress.fill.done == progress.fill.planned and progress.run.status == "succeeded"
    return 0 if complete and whole and all(percent < 100 for _, percent in seen) else 1


def _failures(stage: stages.Stage, workers: list[ProcessContainer]) -> list[tuple[str, Any]]:
    def restart_database() -> None:
        stage.postgresql.stop(signal.SIGQUIT)  # as a crash: sessions are cut, and it recovers
        stage.postgresql.start()

    def empty_broker() -> None:
        stage.broker.stop()
        stage.broker.start()

    def kill() -> None:
        workers[0].kill()
        workers[0].launch()

    def kill_beat() -> None:
        stage.beat.kill()

    def stop_past_the_lease() -> None:
        os.killpg(workers[1].pid, signal.SIGSTOP)
        threading.Timer(1.5 * LEASE_S, _go_on, [workers[1]]).start()

    return [
        ("a worker killed", kill),
        ("the database restarted", restart_database),
        ("the broker killed, and back empty", empty_broker),
        ("beat killed", kill_beat),
        ("a worker stopped past its lease", stop_past_the_lease),
    ]


def _supervised(stage: stages.Stage, workers: list[ProcessContainer]) -> bool:
    """Celery gives up now and then when its broker goes; a supervisor starts it again."""
    for container in [*stage.celery, *workers]:
        if container.status != "running":
            container.launch()
    return True


def _go_on(worker: ProcessContainer) -> None:
    os.killpg(worker.pid, signal.SIGCONT)


def _until_further(run_id: int, seen: list[tuple[str, float]], supervised: Callable[[], bool]) -> None:
    """Wait until more is filled than at the last failure."""
    before = seen[-1][1] if seen else 0.0
    until(lambda: supervised() and _percent(run_id) > before + 3, within_s=60)


def _percent(run_id: int) -> float:
    from backfill import runner

    progress = _again(lambda: runner.status(run_id))
    assert progress.fill.done <= progress.fill.planned
    return float(progress.fill.percent)


def _is_open(run_id: int) -> bool:
    from backfill import runner

    return bool(_again(lambda: runner.get(run_id)).is_open)


def _write(every: Any, enough: threading.Event) -> None:
    from demo.executions import Executions

    executions = Executions(every, draw=random.Random(3))
    while not enough.is_set():
        _again(executions.save)
        time.sleep(1 / SAVES_PER_S)
    _disconnect()


def _again(act: Any) -> Any:
    """What ``act`` returns, as soon as the database is there: a session from before its restart is of no use."""
    from django.db import Error

    for _ in range(100):
        try:
            return act()
        except Error:
            _disconnect()
            time.sleep(0.1)
    return act()


def _disconnect() -> None:
    from django.db import connections

    connections.close_all()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
