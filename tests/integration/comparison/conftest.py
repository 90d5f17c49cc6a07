from __future__ import annotations

import pytest

from tests.hosts.adapter import Host
from tests.integration.comparison.corruptions import ThreeWorkspaces


@pytest.fixture
def three(live: Host) -> ThreeWorkspaces:
    return ThreeWorkspaces(live)
