"""Real workers and beat: killed at a step, paused and cancelled beside live writers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from backfill import control, leases, models, tasks, worker
from backfill.models import Backfill
from tests.backfill import fatal
from tests.backfill.given import HEAVY, History, assert_complete, chunks, plan_backfill, start_backfill
from tests.conftest import Configure
from tests.nodes import BeatContainer, ProcessContainer, WorkerContainer
from tests.oracle import assert_exact, is_idle
from tests.waiting import until
from workflows_tasks.models import WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent

SHORT: dict[str, float] = {
    "TICK_PERIOD_S": 0.3, "BACKFILL_LEASE_S": 2.0, "FLUSH_WINDOW_S": 0.2,
    "AUDIT_STEP_S": 1e6, "AUDIT_PERIOD_S": 1e6,
}  # fmt: skip


class FatalWorker(WorkerContainer):
    """A worker that dies when ordered to."""

    def argv(self) -> Sequence[str]:
        argv = list(super().argv())
        argv[argv.index("celeryconfig")] = fatal.__name__
        return argv


class Workers:
    """Two workers on both queues, either of which may be killed, and beat."""

    def __init__(self, directory: Path, queues: str, env: Mapping[str, str]) -> None:
        self._order = directory / "order"
        env = {**env, fatal.ORDER: str(self._order)}
        self.workers = [FatalWorker(directory / f"worker-{n}", queue=queues, env=env) for n in (1, 2)]
        self.all: list[ProcessContainer] = [*self.workers, BeatContainer(directory / "beat", env=env)]

    def start(self) -> None:
        """Start what does not run, as a supervisor does, and wait until all is ready."""
        for container in self.all:
            if container.status != "running":
                container.launch()
        until(lambda: all(container.ready() for container in self.all), within_s=60)

    def order(self, step: str) -> None:
        """Whoever reaches the step first carries it out."""
        fatal.carried_out(self._order).unlink(missing_ok=True)
        self._order.with_suffix(".new").write_text(step)
        self._order.with_suffix(".new").rename(self._order)

    def obeyed(self) -> None:
        """Wait until the order is carried out."""
        until(fatal.carried_out(self._order).exists, within_s=30)


@pytest.fixture
def workers(
    history: History, node_env: dict[str, str], alone: str, backfill_queue: str, tmp_path: Path
) -> Iterator[Workers]:
    workers = Workers(tmp_path, f"{alone},{backfill_queue}", node_env)
    try:
        workers.start()
        yield workers
    finally:
        for container in workers.all:
            container.teardown()


def ended(backfill: Backfill, *, within_s: float = 40.0) -> Any:
    """Wait until a backfill is at its end; progress is never more than all on the way."""

    def over() -> bool:
        progress = control.status(backfill.pk)
        assert progress.fill.done <= progress.fill.planned
        assert models.active(progress.backfill).count() <= progress.backfill.concurrency
        return progress.backfill.has_ended

    try:
        until(over, within_s=within_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {control.status(backfill.pk).as_json()}") from error
    return control.status(backfill.pk)


@pytest.mark.workers(**SHORT)
@pytest.mark.timeout(240)
def test_killed_at_a_step(history: History, workers: Workers) -> None:
    """Each time the table is in the end what an uninterrupted backfill makes of the same runs."""
    for step in (fatal.COMMITTING, fatal.LOOKING, fatal.DONE):
        WorkspaceRecentWorkflow.objects.all().delete()
        workers.order(step)
        backfill = start_backfill(chunk_size=60)
        workers.obeyed()
        until(lambda: any(worker.status != "running" for worker in workers.workers))
        assert not control.get(backfill.pk).has_ended, step
        workers.start()
        assert_complete(history, ended(backfill))
        assert not chunks(backfill, is_open=True)


@pytest.mark.workers(**SHORT, BACKFILL_THROTTLE="tests.backfill.rehearsal.takes_its_time")
@pytest.mark.timeout(120)
def test_paused_and_cancelled_beside_live_writers(history: History, workers: Workers) -> None:
    history.add(800, history.heavy, *history.light)
    enough = threading.Event()
    host = history.host

    def write() -> None:
        draw = random.Random(7)
        runs = [history.save_run(history.heavy) for _ in range(5)]
        ours = {run.pk for run in runs}
        while not enough.wait(0.01):
            host.save_again(draw.choice(runs))
            host.move_to_workspace(draw.choice(runs), draw.choice([history.heavy, *history.light]))
            some = host.run_model._base_manager.order_by("?")[0]
            if some.pk not in ours:
                some.delete() if draw.random() < 0.5 else host.hide(some)
        connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backfill = start_backfill(chunk_size=60)
        until(lambda: control.status(backfill.pk).fill.done > 60, within_s=30)
        control.pause(backfill.pk, actor="a test")
        until(lambda: not models.active(backfill).exists(), within_s=5)
        filled = control.status(backfill.pk).fill.done
        control.set_concurrency(backfill.pk, 3, actor="a test")
        control.resume(backfill.pk, actor="a test")
        progress = ended(backfill, within_s=60)
    finally:
        enough.set()
        writer.join()
    assert progress.backfill.status == "succeeded", progress.as_json()
    assert 0 < filled < progress.fill.done == progress.fill.planned
    assert progress.verify.drift == 0, "what changed meanwhile is in the change log"
    until(is_idle, within_s=30)
    assert_exact(history.host)
    backfill = start_backfill(chunk_size=10)  # many chunks, each of which takes its time
    until(lambda: chunks(backfill, status="done", kind="fill"), within_s=30)
    control.cancel(backfill.pk, actor="a test")
    until(lambda: control.get(backfill.pk).status == "cancelled", within_s=5)
    assert not models.active(backfill).exists()
    assert not chunks(backfill, is_open=True)
    progress = control.status(backfill.pk)
    assert 0 < progress.fill.done < progress.fill.planned


@pytest.mark.timeout(180)
def test_every_message_delivered_three_times_and_shuffled(
    history: History, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads take them in any order: never are more chunks worked on than may be, and each is done once."""
    configure(TICK_PERIOD_S=0.05)
    monkeypatch.setattr(worker, "SLICE_S", 0.02)
    backfill = plan_backfill(history.only(history.heavy), concurrency=2, chunk_size=40)
    sent: list[int] = []
    most: list[int] = []
    monkeypatch.setattr(tasks, "ask", sent.append)
    real = leases.claim

    def claim(backfill_id: int) -> leases.Lease | None:
        lease = real(backfill_id)
        most.append(models.active(backfill).count())
        return lease

    monkeypatch.setattr(leases, "claim", claim)
    draw = random.Random(11)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(400):
            if control.get(backfill.pk).has_ended:
                break
            messages: list[Callable[[], None]] = [tasks.tick, *([lambda: tasks.work(backfill.pk)] * len(sent))] * 3
            sent.clear()
            draw.shuffle(messages)
            list(pool.map(_carried_out, messages))
    assert max(most) == 2
    assert control.get(backfill.pk).status == "succeeded"
    assert sum(chunk.passed for chunk in chunks(backfill, kind="fill")) == HEAVY


def _carried_out(message: Callable[[], None]) -> None:
    try:
        message()
    finally:
        connections.close_all()
