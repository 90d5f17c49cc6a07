from __future__ import annotations

import pytest

from tests.hosts.adapter import Host
from tests.integration.comparison.scene import Scene


@pytest.fixture
def scene(live: Host) -> Scene:
    return Scene(live)
