"""A whole installation for one soak: PostgreSQL, a Valkey for the inbox and one for the broker, workers, beat."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.servers import PostgreSQL, Valkey
from tests.hosts import settings_module
from tests.nodes import BeatContainer, ProcessContainer, WorkerContainer
from tests.waiting import until

SETTINGS: Final = {
    # A few seconds where the defaults are tens: what has to be recovered is recovered within the run.
    "FLUSH_WINDOW_S": 0.5,
    "MARKER_S": 3.0,
    "FLUSH_TIME_LIMIT_S": 9.0,
    "CLAIM_LEASE_S": 10.0,
    "RESCUE_PERIOD_S": 2.0,
    "SWEEP_PERIOD_S": 3.0,
    # The audit is to find nothing at the end, so it must not have helped before.
    "AUDIT_STEP_S": 1e6,
    "AUDIT_PERIOD_S": 1e6,
}
STARTED_WITHIN_S: Final = 120.0


@dataclass
class Stage:
    """The processes of an installation; each can be killed and started again, at the same address."""

    postgresql: PostgreSQL
    inbox: Valkey
    broker: Valkey
    beat: ProcessContainer
    workers: list[ProcessContainer]

    @property
    def celery(self) -> list[ProcessContainer]:
        return [self.beat, *self.workers]

    def start_celery(self) -> None:
        for container in self.celery:
            if container.status != "running":
                container.launch()

    def until_ready(self) -> None:
        until(lambda: all(container.ready() for container in self.celery), within_s=STARTED_WITHIN_S)


@contextmanager
def stage(directory: Path, *, workers: int) -> Iterator[Stage]:
    """Everything started, Django in this process set up and its tables made; everything ended on leaving."""
    # Of the given servers' versions: these are stopped and killed.
    programs, binary = os.environ.get("TEST_POSTGRESQL_BIN"), os.environ.get("TEST_REDIS_BINARY")
    postgresql = PostgreSQL(directory / "postgresql", bin_directory=programs, settings={"max_connections": "200"})
    inbox, broker = (Valkey(directory / name, binary=binary) for name in ("inbox", "broker"))
    with ExitStack() as stack:
        for server in (postgresql, inbox, broker):
            stack.callback(server.stop)
            server.start()
        _set_up_django(postgresql, inbox, broker)
        from workflows_tasks import conf

        queue = conf.settings().queue
        celery = [WorkerContainer(directory / f"worker-{n}", queue=queue, env={}) for n in range(1, workers + 1)]
        made = Stage(postgresql, inbox, broker, BeatContainer(directory / "beat"), list(celery))
        for container in made.celery:
            stack.callback(container.teardown)
        made.start_celery()
        yield made


def _set_up_django(postgresql: PostgreSQL, inbox: Valkey, broker: Valkey) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": settings_module("platform"),
        "DATABASE_URL": postgresql.url,
        "REDIS_URL": inbox.url,
        "CELERY_BROKER_URL": broker.url,
    }
    from tests.hosts.environment import OVERRIDES  # its module reads what is set above

    os.environ[OVERRIDES] = json.dumps(SETTINGS)
    import django
    from django.core.management import call_command

    import celeryconfig  # noqa: F401  # saves send their messages through the host's Celery app

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)


def pause(container: ProcessContainer) -> None:
    """All processes of a worker stand still, as on a machine that hangs."""
    os.killpg(container.pid, signal.SIGSTOP)


def resume(container: ProcessContainer) -> None:
    if container.status == "running":
        os.killpg(container.pid, signal.SIGCONT)
