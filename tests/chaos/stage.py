"""A host of the demo's shape on servers of its own, with real workers and beat: what the long runs stand on.

Everything is in one directory and ends with the process that made it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from demo.servers import PostgreSQL, Valkey
from tests.commands import ROOT
from tests.nodes import BeatContainer, ProcessContainer, WorkerContainer

SETTINGS_MODULE: Final = "tests.hosts.platform.settings"

OVERRIDES: Final = "TEST_RECENT_WORKFLOWS"
"""As ``tests.hosts.environment`` has it, which reads where the servers are when it is imported."""

NEVER_S: Final = 1e6
AUDIT_OFF: Final = {"AUDIT_STEP_S": NEVER_S, "AUDIT_PERIOD_S": NEVER_S}
"""The audit would put right what flushes must get right by themselves."""


class Stage:
    """Servers, workers and beat. ``settings`` override those that a host gets by default."""

    def __init__(self, directory: Path, *, workers: int, settings: Mapping[str, Any]) -> None:
        self.postgresql = PostgreSQL(directory / "postgresql", settings={"max_wal_size": "4GB"})
        self.redis = Valkey(directory / "redis")
        self.broker = Valkey(directory / "broker")
        self.env = {
            "DATABASE_URL": self.postgresql.url,
            "REDIS_URL": self.redis.url,
            "CELERY_BROKER_URL": self.broker.url,
            "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE,
            OVERRIDES: json.dumps({**AUDIT_OFF, **settings}),
        }
        self._directory = directory
        self._count = workers
        self.workers: list[ProcessContainer] = []
        self.beat: ProcessContainer

    def start_servers(self) -> None:
        """Start the servers and make the tables; from here on this process is one of the host's."""
        for server in (self.postgresql, self.redis, self.broker):
            server.start()
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.environ.update(self.env, PYTHONPATH=path)
        import django
        from django.core.management import call_command

        import celeryconfig  # noqa: F401  # saves send their messages through the host's Celery app

        django.setup()
        call_command("migrate", verbosity=0, interactive=False, skip_checks=True)

    def start_celery(self) -> None:
        """Start workers and beat, and wait until they are ready."""
        from workflows_tasks import conf

        queue = conf.settings().queue
        self.workers = [
            WorkerContainer(self._directory / f"worker-{number}", queue=queue, env=self.env)
            for number in range(1, self._count + 1)
        ]
        self.beat = BeatContainer(self._directory / "beat", env=self.env)
        for container in self.celery:
            container.launch()
        for container in self.celery:
            container.wait_until_ready()

    @property
    def celery(self) -> list[ProcessContainer]:
        return [*self.workers, self.beat]

    def replace_the_ended(self) -> int:
        """Start what does not run, as a supervisor does; returns how many."""
        ended = [container for container in self.celery if container.status != "running"]
        for container in ended:
            container.launch()
        return len(ended)

    def logs(self) -> str:
        """What all workers said."""
        return "".join(worker.logs() for worker in self.workers)

    def stop(self) -> None:
        for container in self.celery if self.workers else ():
            container.teardown()
        self.broker.stop()
        self.redis.stop()
        self.postgresql.stop(signal.SIGQUIT)


@contextmanager
def stage(directory: Path, *, workers: int = 1, settings: Mapping[str, Any] | None = None) -> Iterator[Stage]:
    """A stage whose servers run and whose tables are there; workers and beat are started when asked for."""
    made = Stage(directory, workers=workers, settings=settings or {})
    try:
        made.start_servers()
        yield made
    finally:
        from django.conf import settings as configured
        from django.db import connections

        if configured.configured:
            connections.close_all()
        made.stop()
