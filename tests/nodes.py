"""pytest-celery's nodes on processes of this machine instead of containers: nothing here talks to Docker.

A node asks its container for a handful of things: ``id``, ``name``, ``status``, ``logs()``, ``ready()``, ``kill()``,
``restart()``, ``teardown()``, ``celeryconfig``. That is what these classes offer; their base class is only there for
the plugin's ``isinstance`` tests, and its constructor, which wants a Docker client, is never called.
"""

from __future__ import annotations

import signal as signals
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_celery import CeleryTestContainer, CeleryWorkerContainer

from demo.servers import Process, Valkey
from tests.commands import ROOT


class ProcessContainer(CeleryTestContainer):  # type: ignore[misc]  # an untyped base
    """A process that pytest-celery takes for a container."""

    kind = "process"
    ready_line = ""
    """What its log says when it is ready."""

    def __init__(self, directory: Path, *, env: Mapping[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._id = uuid.uuid4().hex
        self._log = directory / f"{self.kind}.log"
        self._log_start = 0
        self._process = Process(self.argv(), self._log, env={"PYTHONPATH": str(ROOT), **(env or {})})

    def argv(self) -> Sequence[str]:
        raise NotImplementedError

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return f"{self.kind}-{self._id[:8]}"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"Config": {"Hostname": "127.0.0.1", "Env": [], "Labels": {}}}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> str:
        return "running" if self._process.running else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    def logs(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        self._log_start = len(self.logs())
        self._process.launch()

    def wait_until_ready(self) -> None:
        self._process.wait_until(self.ready)

    def ready(self) -> bool:
        """Asked of this incarnation: an earlier one's "ready" does not count."""
        return self.status == "running" and self.ready_line in self.logs()[self._log_start :]

    def reload(self) -> str:
        return self.status

    def kill(self, signal: str | int | None = None) -> None:
        """SIGKILL takes the whole group along, as it does a container's processes."""
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal or signals.SIGKILL)
        if number == signals.SIGKILL:
            self._process.stop(number)
        else:
            self._process.send(number)

    def restart(self, timeout: float = 10) -> None:
        self.teardown()
        self.start()

    def teardown(self) -> None:
        """The plugin calls it more than once. No warm shutdown, which takes seconds."""
        if self.status == "running":
            self._process.stop(signals.SIGKILL)


class WorkerContainer(ProcessContainer, CeleryWorkerContainer):  # type: ignore[misc]  # an untyped base
    """``celery -A celeryconfig worker`` on one queue."""

    kind = "worker"
    ready_line = " ready."

    def __init__(self, directory: Path, *, queue: str, env: Mapping[str, str]) -> None:
        self._queue = queue
        # Root may run these tests, and one of them accepts pickle.
        super().__init__(directory, env={**env, "C_FORCE_ROOT": "1"})

    def argv(self) -> Sequence[str]:
        node = f"{self.worker_name()}@{self._id[:12]}"
        return [
            sys.executable, "-m", "celery", "-A", "celeryconfig", "worker", "--loglevel=INFO", "-n", node,
            "-Q", self._queue, "--pool=prefork", "--concurrency=2", "--without-gossip", "--without-mingle",
        ]  # fmt: skip


class BeatContainer(ProcessContainer):
    """``celery -A celeryconfig beat``."""

    kind = "beat"
    ready_line = "beat: Starting..."

    def argv(self) -> Sequence[str]:
        schedule = self._log.with_suffix(".schedule")
        return [
            sys.executable, "-m", "celery", "-A", "celeryconfig", "beat", "--loglevel=INFO",
            "--schedule", str(schedule), "--pidfile", "",
        ]  # fmt: skip


class ValkeyContainer(ProcessContainer):
    """A broker of the test's own: it can be killed, and comes back empty at the same address."""

    kind = "broker"

    def __init__(self, directory: Path) -> None:
        self._server = Valkey(directory)
        super().__init__(directory)
        self._process = self._server._process

    def argv(self) -> Sequence[str]:
        return []

    def ready(self) -> bool:
        return self.status == "running" and self._server._answers()

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self._server.url, "host_url": self._server.url}


class GivenBroker(ProcessContainer):
    """A broker that somebody else runs: it is not ours to start or kill."""

    kind = "given broker"

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(directory)
        self._url = url

    def argv(self) -> Sequence[str]:
        return []

    def start(self) -> None:
        return

    def ready(self) -> bool:
        return True

    def teardown(self) -> None:
        return

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self._url, "host_url": self._url}
