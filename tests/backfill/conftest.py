"""Fixtures of the backfill's tests: short times, a queue of each test's own, a history with a heavy workspace."""

from __future__ import annotations

import pytest

from backfill import course
from tests.backfill.history import History
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.workers.conftest import node_env as node_env  # noqa: PLC0414  # a fixture here, too
from tests.workers.conftest import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: PLC0414


@pytest.fixture(autouse=True)
def backfill_queue(alone: str, configure: Configure, names_used: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Celery queue of this test's chunks. What is waited for elsewhere is waited for briefly here."""
    queue = f"{alone}-backfill"
    names_used.append(queue)
    configure(BACKFILL_QUEUE=queue, FLUSH_WINDOW_S=0.05, BACKFILL_TICK_S=0.2)
    monkeypatch.setattr(course, "RETRY_S", 0.0)
    return queue


@pytest.fixture
def history(live: Host) -> History:
    """One heavy workspace, many light ones, some runs that do not count; nothing of it is in the table."""
    return History(live)
