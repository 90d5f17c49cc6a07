"""Killing a worker at a step, and the time until the table is exact again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from django.db import transaction

from tests.endurance import fatal
from tests.hosts.adapter import Host, moment
from tests.nodes import BeatContainer, ProcessContainer, WorkerContainer
from tests.oracle import expected, idle, stored
from tests.waiting import until
from workflows_tasks import conf

STARTED_WITHIN_S: Final = 60.0

NEVER_S: Final = 1e6
ALONE: Final = {"SWEEP_PERIOD_S": NEVER_S, "AUDIT_STEP_S": NEVER_S, "AUDIT_PERIOD_S": NEVER_S}
SHORT: Final = {
    **ALONE, "FLUSH_TIME_LIMIT_S": 2.5, "CLAIM_LEASE_S": 3.0, "RESCUE_PERIOD_S": 1.0, "MARKER_S": 1.5,
    "FLUSH_WINDOW_S": 0.5, "SHARDS": 1,
}  # fmt: skip
SLACK_S: Final = 4.0

EXACT_AT_THE_KILL: Final = {"before the second look for stale rows", "before the acknowledgement"}


@dataclass(frozen=True)
class Kill:
    """One line of the matrix."""

    step: str
    settings: str
    exact_after_s: float
    within_s: float

    def __str__(self) -> str:
        return f"{self.step:<62} {self.settings:<8} {self.exact_after_s:6.1f} s  (at most {self.within_s:g} s)"


MATRIX: Final = pytest.StashKey[list[Kill]]()


class FatalWorker(WorkerContainer):
    """A worker that dies when ordered to."""

    def argv(self) -> Sequence[str]:
        argv = list(super().argv())
        argv[argv.index("celeryconfig")] = fatal.__name__
        return argv


@dataclass
class Ensemble:
    """Two workers, either of which may be killed, and beat. Context manager; started by ``ready``."""

    directory: Path
    queue: str
    env: Mapping[str, str]
    _all: list[ProcessContainer] = field(default_factory=list, init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Ensemble:
        env = {**self.env, fatal.ORDER: str(self.order_file)}
        self._all = [FatalWorker(self.directory / f"worker-{n}", queue=self.queue, env=env) for n in (1, 2)]
        self._all.append(BeatContainer(self.directory / "beat", env=env))
        for container in self._all:
            self._stack.callback(container.teardown)
        self.replace_the_dead()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def order_file(self) -> Path:
        return self.directory / "order"

    def replace_the_dead(self) -> None:
        """Start what does not run, as a supervisor does; it takes a second or two to be ready."""
        for container in self._all:
            if container.status != "running":
                container.launch()

    def ready(self) -> None:
        until(lambda: all(container.ready() for container in self._all), within_s=STARTED_WITHIN_S)

    def order(self, step: str) -> None:
        """Whoever reaches the step first dies there."""
        fatal.carried_out(self.order_file).unlink(missing_ok=True)
        self.order_file.with_suffix(".new").write_text(step)
        self.order_file.with_suffix(".new").rename(self.order_file)

    def killed_at_s(self) -> float:
        """Wait until the order is carried out; returns when it was, by ``time.time``."""
        done = fatal.carried_out(self.order_file)
        until(done.exists, within_s=30)
        until(lambda: not self.order_file.exists())
        return done.stat().st_ctime  # of the renaming


class Scene:
    """A few runs whose rows are right, and then change: one row rises, one comes down, one goes, one comes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.here, self.there = host.make_workspace(), host.make_workspace()
        self._user = host.make_user()
        self._workflows = [host.make_workflow() for _ in range(3)]
        self._older, self._latest = (self._run(self.here, 0, minutes) for minutes in (1, 2))
        self._wanders = self._run(self.there, 1, 3)
        self.stays = self._run(self.there, 2, 4)

    def _run(self, workspace: Any, workflow: int, minutes: float | None = None) -> Any:
        return self._host.make_run(
            workspace=workspace,
            workflow=self._workflows[workflow],
            user=self._user,
            used_at=None if minutes is None else moment(minutes),
        )

    def change(self) -> None:
        with transaction.atomic():
            self._latest.delete()
            self._host.move_to_workspace(self._wanders, self.here)
            self._host.save_again(self.stays)
            self._run(self.here, 2)


def exact(host: Host) -> bool:
    return Counter(stored()) == Counter(expected(host))


def settled(host: Host) -> bool:
    """The table is exact, and nothing waits or is claimed that could still change it."""
    return exact(host) and idle()


def seconds_until_settled(host: Host, *, since_s: float, within_s: float) -> float:
    until(lambda: settled(host), within_s=within_s - (time.time() - since_s))
    return time.time() - since_s


def bound_s() -> float:
    """Until a claim that nobody acknowledged is taken up again and written, with the settings of this test."""
    settings = conf.settings()
    return settings.claim_lease_s + settings.rescue_period_s + settings.flush_window_s + SLACK_S


def worker_killed(ensemble: Ensemble, live: Host, step: str, settings: str) -> Kill:
    """A worker dies at a step of its flush; how long it takes until the table is exact."""
    scene = Scene(live)
    until(lambda: settled(live))
    ensemble.order(step)
    scene.change()
    killed_at_s = ensemble.killed_at_s()
    assert exact(live) == (step in EXACT_AT_THE_KILL), f"{step}: killed elsewhere"
    took_s = seconds_until_settled(live, since_s=killed_at_s, within_s=bound_s())
    return Kill(f"flush: {step}", settings, took_s, bound_s())


def save_and_die(run: Any, order: Path, env: Mapping[str, str]) -> int:
    """Save a run in a process of its own, which dies as ordered; returns its exit status."""
    from tests.commands import python

    return python("-m", "tests.endurance.saver", str(run.pk), env={**env, fatal.ORDER: str(order)})[0]
