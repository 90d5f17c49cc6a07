"""The host, running: Django in this process, and the Celery worker and beat as children.

Whatever ends this process, a signal, an error or ``SIGKILL``, ends its children.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from demo.servers import Process, die_with_parent

ROOT = Path(__file__).resolve().parent.parent
CONCURRENCY = 3
"""Two chunks of a backfill, and a flush beside them."""

SAVE_TIMEOUT_S = 0.5
"""More patience than a web server should have: a laptop whose cores are all busy for a moment is no outage."""

OF_THE_PLATFORM = ("admin", "sessions", "bots")
"""Apps that were there before the package."""


def end_with_parent() -> None:
    """End when the shell or ``make`` that started this process does, as on Ctrl-C: with a clean-up."""
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, _exit)
    die_with_parent(signal.SIGTERM)


def refuse_interruption() -> None:
    """From here on nothing but SIGKILL cuts the clean-up short; each of its waits is bounded."""
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(sig, signal.SIG_IGN)


def _exit(sig: int, _: object) -> NoReturn:
    raise SystemExit(128 + sig)


def set_up_django(environment: dict[str, str]) -> None:
    """Point this process, and every child it will have, at the servers; only then may Django be imported."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.update(environment, DJANGO_SETTINGS_MODULE="demo.settings", PYTHONPATH=path)
    os.environ.setdefault("SAVE_TIMEOUT_S", str(SAVE_TIMEOUT_S))
    import django

    django.setup()


def migrate(*apps: str) -> None:
    """Migrate some apps, or all."""
    from django.core.management import call_command

    for app in [[each] for each in apps] or [[]]:
        call_command("migrate", *app, verbosity=0, interactive=False)


class Workers:
    """``celery worker`` on both queues, and ``celery beat``. A real host gives each queue a worker of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        from workflows_tasks import conf

        celery = [sys.executable, "-m", "celery", "-A", "celeryconfig"]
        queues = f"{conf.settings().queue},{conf.settings().backfill_queue}"
        worker = f"worker -Q {queues} --pool prefork --concurrency {CONCURRENCY} --loglevel info"
        # Nobody else to talk to: without these it is ready a second earlier.
        alone = ["--without-mingle", "--without-gossip"]
        self._worker = Process([*celery, *worker.split(), *alone], directory / "worker.log")
        self._beat = Process([*celery, "beat", "--loglevel", "info"], directory / "beat.log")

    def launch_worker(self) -> None:
        """It takes a second or two to be ready."""
        self._worker.launch()

    def start(self) -> None:
        """Launch beat, and wait until both are ready.

        Raises:
            RuntimeError: one of them ended or is not ready in time.
        """
        self._beat.launch()
        self._worker.wait_until(lambda: " ready." in self._worker.log.read_text())
        self._beat.wait_until(lambda: "beat: Starting" in self._beat.log.read_text())

    def flush_messages(self) -> int:
        """How many flush messages came, whoever sent them."""
        return len(re.findall(r"Task workflows_tasks\.tasks\.flush\[\S+ received", self._worker.log.read_text()))

    @property
    def log_end(self) -> str:
        """The worker's last words; its log goes with the directory."""
        return self._worker.log.read_text()[-2000:]

    @property
    def worker_pid(self) -> int:
        return self._worker.pid

    def stop(self) -> None:
        for child in (self._beat, self._worker):
            child.send(signal.SIGTERM)  # both at once: each takes a second or two
        for child in (self._beat, self._worker):
            child.join(within_s=5)


@contextmanager
def workers(directory: Path) -> Iterator[Workers]:
    """A worker, launched, and beat, to be started; stopped at the end."""
    running = Workers(directory)
    try:
        running.launch_worker()
        yield running
    finally:
        running.stop()
