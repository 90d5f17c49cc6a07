"""Servers of these tests' own, in the versions that the environment names, and a project on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from demo.servers import PostgreSQL, Process, Valkey
from tests import hosts
from tests.integration.versions.project import Project


def pytest_ignore_collect() -> bool | None:
    """Nothing here depends on the host under test."""
    return None if hosts.current().name == hosts.NAMES[0] else True


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A directory that every user may read: PostgreSQL and PgBouncer do not run as root."""
    with TemporaryDirectory(prefix="versions-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="module")
def servers(room: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL and Redis; the variables that name them, and Redis as the broker."""
    postgresql = PostgreSQL(room / "postgresql", bin_directory=os.environ.get("TEST_POSTGRESQL_BIN"))
    redis = Valkey(room / "redis", binary=os.environ.get("TEST_REDIS_BINARY"))
    with ExitStack() as stack:
        for server in (postgresql, redis):
            stack.callback(server.stop)
            server.start()
        env = {
            "DATABASE_URL": postgresql.url,
            "REDIS_URL": redis.url,
            "CELERY_BROKER_URL": redis.url.removesuffix("/0") + "/1",
        }
        Project(room, env).migrate()
        yield env


@pytest.fixture
def started() -> Iterator[Callable[[Process], Process]]:
    """``started(process)``: it is ended with the test."""
    with ExitStack() as stack:

        def kept(process: Process) -> Process:
            stack.callback(process.stop, signal.SIGKILL)  # a warm stop takes seconds
            return process

        yield kept
