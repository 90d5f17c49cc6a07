"""Real worker processes and beat, that fill while they are killed, stopped, and replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from backfill import rows, runner
from backfill.models import Run
from tests.backfill import fatal
from tests.endurance.fatal import ORDER, carried_out
from tests.nodes import BeatContainer, ProcessContainer, WorkerContainer
from tests.waiting import until

STARTED_WITHIN_S = 60.0


class FatalWorker(WorkerContainer):
    """A worker that dies, or stands still, when ordered to."""

    def argv(self) -> Sequence[str]:
        argv = list(super().argv())
        argv[argv.index("celeryconfig")] = fatal.__name__
        return argv


class Crew:
    """Two workers on both queues, either of which may be killed, and beat. Context manager."""

    def __init__(self, directory: Path, queues: str, env: Mapping[str, str]) -> None:
        self.order_file = directory / "order"
        with_order = {**env, ORDER: str(self.order_file)}
        self.workers = [FatalWorker(directory / f"worker-{n}", queue=queues, env=with_order) for n in (1, 2)]
        self._all: list[ProcessContainer] = [*self.workers, BeatContainer(directory / "beat", env=with_order)]
        self._stack = ExitStack()

    def __enter__(self) -> Crew:
        for container in self._all:
            self._stack.callback(container.teardown)
        self.replace_the_dead()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def replace_the_dead(self) -> None:
        """Start what does not run, as a supervisor does."""
        for container in self._all:
            if container.status != "running":
                container.launch()

    def ready(self) -> None:
        until(lambda: all(container.ready() for container in self._all), within_s=STARTED_WITHIN_S)

    def order(self, step: str) -> None:
        """Whoever reaches the step first carries it out."""
        carried_out(self.order_file).unlink(missing_ok=True)
        self.order_file.with_suffix(".new").write_text(step)
        self.order_file.with_suffix(".new").rename(self.order_file)

    def obeyed(self) -> int:
        """Wait until the order is carried out; returns the id of the process that did."""
        done = carried_out(self.order_file)
        until(done.exists, within_s=30)
        return int(done.read_text())

    def killed(self) -> None:
        """Wait until a worker was killed by an order."""
        self.obeyed()
        until(lambda: any(worker.status != "running" for worker in self.workers))

    def logs(self) -> str:
        return "".join(worker.logs() for worker in self.workers)


def ended(run: Run, *, within_s: float = 40.0) -> Any:
    """Wait until a backfill is at its end; progress is never more than all on the way."""

    def over() -> bool:
        progress = runner.status(run.pk)
        assert progress.fill.done <= progress.fill.planned
        assert rows.active(progress.run).count() <= progress.run.parallel
        return not progress.run.is_open

    try:
        until(over, within_s=within_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {runner.status(run.pk).as_json()} {list(run.events.all())}") from error
    return runner.status(run.pk)
