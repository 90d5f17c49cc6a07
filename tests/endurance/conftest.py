"""Fixtures of the long runs with real processes, and their summary."""

from __future__ import annotations

import pytest

from tests import hosts
from tests.endurance.kills import MATRIX, Kill
from tests.workers.conftest import node_env as node_env  # noqa: PLC0414  # a fixture here, too
from tests.workers.conftest import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: PLC0414

ONCE = {"test_kill_matrix.py", "test_kill_as_shipped.py", "test_redis_emptied.py", "test_soak.py"}
"""What takes long and does not depend on the host's models."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hosts.current().name != hosts.NAMES[0]:
        left_out = [item for item in items if item.path.name in ONCE]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> list[Kill]:
    """Where a test puts the kills it has seen; printed at the end."""
    kills: list[Kill] = request.config.stash.setdefault(MATRIX, [])
    return kills


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    kills = config.stash.get(MATRIX, [])
    if kills:
        terminalreporter.section("kill matrix: seconds from the kill until the table is exact and nothing is claimed")
        for kill in kills:
            terminalreporter.line(str(kill))
