"""Fixtures of the backfill's tests: a queue of each test's own, short times, a history with a heavy workspace."""

from __future__ import annotations

from typing import Any

import pytest

from backfill import lifecycle
from tests.backfill.given import History
from tests.conftest import Configure
from tests.hosts.adapter import Host


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
def settings_of_workers() -> dict[str, Any]:
    """As configured above."""
    return {}


@pytest.fixture
def history(live: Host) -> History:
    """One heavy workspace, many light ones, a run that does not count; nothing of it is in the table or the log."""
    return History(live)
