from __future__ import annotations

import pytest

from tests.hosts.adapter import Host
from tests.integration.capture.sample import Sample


@pytest.fixture
def sample(live: Host) -> Sample:
    return Sample(live)
