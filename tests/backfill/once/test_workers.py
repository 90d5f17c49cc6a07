"""Real workers: killed at every step, stopped past their lease, without a broker; all of history is in at the end."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import connections

from backfill import leases, rows, runner, tasks
from backfill.models import Run
from tests import broker
from tests.backfill import fatal
from tests.backfill.crew import Crew, ended
from tests.backfill.history import History, assert_complete, carried_out, planned, started
from tests.conftest import Configure
from tests.exactness.stepping import another_connection
from tests.oracle import assert_exact, idle, stored
from tests.waiting import until
from workflows_tasks.models import WorkspaceRecentWorkflow

SHORT = {
    "BACKFILL_TICK_S": 0.3, "BACKFILL_LEASE_S": 2.0, "BACKFILL_STATEMENT_TIMEOUT_S": 1.5, "FLUSH_WINDOW_S": 0.2,
    "SWEEP_PERIOD_S": 1e6, "AUDIT_STEP_S": 1e6, "AUDIT_PERIOD_S": 1e6,
}  # fmt: skip


@pytest.fixture
def crew(history: History, node_env: dict[str, str], alone: str, backfill_queue: str, tmp_path: Path) -> Iterator[Crew]:
    with Crew(tmp_path, f"{alone},{backfill_queue}", node_env) as crew:
        crew.ready()
        yield crew


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(240)
def test_killed_at_every_step_and_stopped_past_its_lease(history: History, crew: Crew) -> None:
    """And each time what is in the table at the end is what an uninterrupted backfill makes of the same runs."""
    for step in (fatal.CLAIMING, fatal.COMMITTING, fatal.LOOKING, fatal.FINISHING, fatal.DONE):
        WorkspaceRecentWorkflow.objects.all().delete()
        crew.ready()
        crew.order(step)
        run = started(chunk_size=60)
        crew.killed()
        assert runner.get(run.pk).is_open, step
        crew.replace_the_dead()
        assert_complete(history, ended(run))
    interrupted = set(stored())
    WorkspaceRecentWorkflow.objects.all().delete()
    assert_complete(history, carried_out_alone())
    assert set(stored()) == interrupted


def carried_out_alone() -> Any:
    """An uninterrupted backfill by the same workers."""
    return ended(started(chunk_size=60))


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(120)
def test_a_worker_that_stood_still_past_its_lease_commits_nothing(history: History, crew: Crew) -> None:
    crew.order(fatal.FILLING + fatal.STAND_STILL)
    run = started(chunk_size=60)
    zombie = crew.obeyed()
    assert_complete(history, ended(run))
    before = stored()
    counted = {chunk.pk: (chunk.passed, chunk.rows, chunk.status) for chunk in rows.chunks(run)}
    os.kill(zombie, signal.SIGCONT)
    until(lambda: "the lease was lost, nothing was written" in crew.logs(), within_s=20)
    assert stored() == before
    assert {chunk.pk: (chunk.passed, chunk.rows, chunk.status) for chunk in rows.chunks(run)} == counted


@pytest.mark.workers(**SHORT, BACKFILL_THROTTLE="tests.backfill.rehearsal.takes_its_time")
@pytest.mark.timeout(120)
def test_live_writers_deletes_and_moves_meanwhile_and_paused_in_between(history: History, crew: Crew) -> None:
    history.add(1_500, history.heavy, *history.light)
    enough = threading.Event()
    host = history.host

    def write() -> None:
        draw = random.Random(7)
        runs = [history.saved(history.heavy) for _ in range(5)]
        while not enough.is_set():
            run = draw.choice(runs)
            host.save_again(run)
            host.move_to_workspace(draw.choice(runs), draw.choice([history.heavy, *history.light]))
            some = list(host.run_model._base_manager.order_by("?")[:1])
            if some and some[0].pk not in {each.pk for each in runs}:
                _deleted(some[0]) if draw.random() < 0.5 else host.hide(some[0])
        connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    run = started(chunk_size=60)
    until(lambda: runner.status(run.pk).fill.done > 60, within_s=30)
    runner.pause(run.pk, actor="a test")
    until(lambda: runner.get(run.pk).status == "paused", within_s=5)
    filled = runner.status(run.pk).fill.done
    assert not rows.active(run).exists()
    runner.set_parallel(run.pk, 3, actor="a test")
    runner.resume(run.pk, actor="a test")
    progress = ended(run, within_s=60)
    enough.set()
    writer.join()
    assert progress.run.status == "succeeded", progress.as_json()
    assert 0 < filled < progress.fill.done == progress.fill.planned
    until(idle, within_s=30)
    assert_exact(history.host)


@pytest.mark.workers(**SHORT, BACKFILL_THROTTLE="tests.backfill.rehearsal.takes_its_time")
@pytest.mark.timeout(120)
def test_cancelled_it_is_idle_within_five_seconds(history: History, crew: Crew) -> None:
    history.add(1_500, history.heavy, *history.light)
    run = started(chunk_size=10)  # 150 chunks or more, each of which takes its time
    until(
        lambda: runner.get(run.pk).status == "running" and rows.chunks(run).filter(status="done").exists(), within_s=30
    )
    runner.cancel(run.pk, actor="a test")
    until(lambda: runner.get(run.pk).status == "cancelled", within_s=5)
    assert not rows.active(run).exists()
    assert leases.claim(run.pk) is None
    progress = runner.status(run.pk)
    assert 0 < progress.fill.done < progress.fill.planned


def _deleted(run: Any) -> None:
    run.delete()


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(120)
def test_a_broker_that_is_emptied_loses_nothing(
    history: History, crew: Crew, celery_app_in_process: Celery, alone: str, backfill_queue: str
) -> None:
    """All workers stand still while messages are sent; the messages are gone when they go on."""
    run = started(chunk_size=60)
    for worker in crew.workers:
        os.killpg(worker.pid, signal.SIGSTOP)
    for _ in range(5):
        tasks.ask(run.pk)
    for queue in (alone, backfill_queue):
        broker.take_all(celery_app_in_process, queue)
    for worker in crew.workers:
        os.killpg(worker.pid, signal.SIGCONT)
    assert_complete(history, ended(run))


@pytest.mark.timeout(180)
def test_every_message_delivered_three_times_and_shuffled(
    history: History, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four workers take them in any order: never are more chunks worked on than may be, and each is done once."""
    configure(BACKFILL_SLICE_S=0.02, BACKFILL_TICK_S=0.05)
    run = planned(parallel=2, chunk_size=60)
    sent: list[int] = []
    most: list[int] = []
    monkeypatch.setattr(tasks, "ask", sent.append)
    _watched(monkeypatch, most)
    draw = random.Random(11)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(400):
            if not runner.get(run.pk).is_open:
                break
            messages: list[Callable[[], None]] = [tasks.tick, *[_working(each) for each in sent]] * 3
            sent.clear()
            draw.shuffle(messages)
            list(pool.map(_carried_out, messages))
    assert max(most) == 2
    progress = runner.status(run.pk)
    assert_complete(history, progress)
    assert sum(chunk.passed for chunk in rows.chunks(run).filter(kind="fill")) == history.runs


def _watched(monkeypatch: pytest.MonkeyPatch, most: list[int]) -> None:
    real = leases.claim

    def claim(run_id: int) -> leases.Lease | None:
        lease = real(run_id)
        most.append(rows.active(Run.objects.get(pk=run_id)).count())
        return lease

    monkeypatch.setattr(leases, "claim", claim)


def _working(run: int) -> Callable[[], None]:
    return lambda: tasks.work(run)


def _carried_out(message: Callable[[], None]) -> None:
    try:
        message()
    finally:
        connections.close_all()


def test_a_database_that_goes_away_in_the_middle(history: History) -> None:
    """Every session of the worker is ended by the server between two batches; the next message goes on."""
    from django.db import connection

    from workflows_tasks import projection

    run = planned(parallel=1, chunk_size=60)
    real = projection.raise_history
    ended_once: list[int] = []

    def fill(*args: Any, **kwargs: Any) -> int:
        if len(ended_once) == 2:
            with another_connection() as other, other.cursor() as cursor, connection.cursor() as own:
                own.execute("SELECT pg_backend_pid()")
                cursor.execute("SELECT pg_terminate_backend(%s)", own.fetchone())
        ended_once.append(1)
        return real(*args, **kwargs)

    projection.raise_history = fill
    try:
        progress = carried_out(run)
    finally:
        projection.raise_history = real
    assert [event.what for event in progress.run.events.all()].count("failure") == 1
    assert_complete(history, progress)
