"""Fixtures of the backfill's tests: a queue of each test's own, short times, a history with a heavy workspace."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from backfill import lifecycle
from tests.backfill.given import History
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.hosts.environment import OVERRIDES


@pytest.fixture(autouse=True)
def backfill_queue(alone: str, configure: Configure, names_used: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Celery queue of this test's chunks. A chunk that failed is tried again at once."""
    queue = f"{alone}-backfill"
    names_used.append(queue)
    configure(BACKFILL_QUEUE=queue, TICK_PERIOD_S=0.2)
    monkeypatch.setattr(lifecycle, "RETRY_S", 0.0)
    return queue


@pytest.fixture
def history(live: Host) -> History:
    """One heavy workspace, many light ones, a run that does not count; nothing of it is in the table or the log."""
    return History(live)


@pytest.fixture
def node_env(request: pytest.FixtureRequest, live: Host, configure: Configure) -> dict[str, str]:
    """What makes another process one of this test's: its database, Redis keys, queues and settings."""
    marker = request.node.get_closest_marker("workers")
    configure(**(marker.kwargs if marker else {}))
    database = connection.settings_dict
    login = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
    plain = {key: value for key, value in settings.RECENT_WORKFLOWS.items() if isinstance(value, str | int | float)}
    return {
        "DATABASE_URL": f"postgresql://{login}@{database['HOST']}:{database['PORT']}/{database['NAME']}",
        OVERRIDES: json.dumps(plain),
    }


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
