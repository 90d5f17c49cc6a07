"""Fixtures of the backfill's tests: a queue of each test's own, short times, a history with a heavy workspace."""

from __future__ import annotations

import json

import pytest
from django.conf import settings

from backfill import lifecycle
from tests import sessions
from tests.backfill.given import History
from tests.chaos.conftest import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: PLC0414  # a hook
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.hosts.environment import OVERRIDES


@pytest.fixture(autouse=True)
def backfill_queue(alone: str, configure: Configure, names_used: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Celery queue of this test's chunks. A chunk that failed is tried again at once. Changes that a test leaves in the
    log stop no backfill, however slow the machine is: that is what test_throttle is for."""
    queue = f"{alone}-backfill"
    names_used.append(queue)
    configure(BACKFILL_QUEUE=queue, TICK_PERIOD_S=0.2, BACKFILL_STOP_S=600.0)
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
    plain = {key: value for key, value in settings.RECENT_WORKFLOWS.items() if isinstance(value, str | int | float)}
    return {"DATABASE_URL": sessions.url(), OVERRIDES: json.dumps(plain)}
