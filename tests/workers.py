"""pytest-celery's fixtures, with processes in place of containers, and the host's database and Redis."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from django.conf import settings
from pytest_celery import CeleryTestBroker, CeleryTestNode, CeleryTestWorker

from tests import sessions
from tests.hosts.adapter import Host
from tests.hosts.environment import OVERRIDES
from tests.nodes import BeatContainer, GivenBroker, ProcessContainer, ValkeyContainer, WorkerContainer

if TYPE_CHECKING:
    from tests.conftest import Configure

BRISK = {"FLUSH_WINDOW_S": 0.2, "TICK_PERIOD_S": 0.5, "PAUSE_S": 0.5, "AUDIT_STEP_S": 1e6, "AUDIT_PERIOD_S": 1e6}
"""Settings of workers, unless a test's marker ``workers(...)`` says otherwise. The audit is off: it would put right
what flushes must get right by themselves."""


@pytest.fixture
def settings_of_workers() -> dict[str, Any]:
    """A folder may have others."""
    return BRISK


@pytest.fixture
def node_env(
    request: pytest.FixtureRequest, live: Host, configure: Configure, settings_of_workers: dict[str, Any]
) -> dict[str, str]:
    """What makes another process of this machine one of this test's: its database, Redis keys, queue and settings."""
    marker = request.node.get_closest_marker("workers")
    configure(**{**settings_of_workers, **(marker.kwargs if marker else {})})
    plain = {key: value for key, value in settings.RECENT_WORKFLOWS.items() if isinstance(value, str | int | float)}
    return {"DATABASE_URL": sessions.url(), OVERRIDES: json.dumps(plain)}


@pytest.fixture
def celery_broker(live: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CeleryTestBroker]:
    """A broker of this test's own, or the one that is given."""
    given = os.environ.get("TEST_BROKER_URL")
    yield from _started(GivenBroker(tmp_path, given) if given else ValkeyContainer(tmp_path / "broker"), monkeypatch)


@pytest.fixture
def own_broker(live: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CeleryTestBroker]:
    """A broker of this test's own, also where another is given; for ``celery_broker`` to return."""
    yield from _started(ValkeyContainer(tmp_path / "broker"), monkeypatch)


def _started(container: ProcessContainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[CeleryTestBroker]:
    container.start()
    monkeypatch.setenv("CELERY_BROKER_URL", container.celeryconfig["url"])  # for this process and those it starts
    node = CeleryTestBroker(container)
    yield node
    node.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """No results are kept."""


@pytest.fixture
def celery_setup_app(celery_app_in_process: Celery) -> Celery:
    """The app that is there anyway: the plugin would make another one current, for good."""
    return celery_app_in_process


@pytest.fixture
def containers(
    request: pytest.FixtureRequest,
    celery_broker: CeleryTestBroker,
    node_env: dict[str, str],
    alone: str,
    tmp_path: Path,
) -> Iterator[dict[str, ProcessContainer]]:
    """A worker with two processes on this test's queue, and beat if the test asks for it; started side by side."""
    started: dict[str, ProcessContainer] = {"worker": WorkerContainer(tmp_path / "worker", queue=alone, env=node_env)}
    if "beat" in request.fixturenames:
        started["beat"] = BeatContainer(tmp_path / "beat", env=node_env)
    for container in started.values():
        container.launch()
    for container in started.values():
        container.wait_until_ready()
    yield started
    for container in started.values():
        container.teardown()


@pytest.fixture
def celery_worker(containers: dict[str, ProcessContainer], celery_app_in_process: Celery) -> CeleryTestWorker:
    return CeleryTestWorker(containers["worker"], celery_app_in_process)


@pytest.fixture
def beat(containers: dict[str, ProcessContainer]) -> CeleryTestNode:
    """Celery beat with the package's entries."""
    return CeleryTestNode(containers["beat"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure's report has what the processes said."""
    report = yield
    directory = item.funcargs.get("tmp_path")
    if report.failed and isinstance(directory, Path):
        for log in directory.glob("*/*.log"):
            report.sections.append((f"log of {log.stem}", log.read_text(errors="replace")[-6_000:]))
    return report
