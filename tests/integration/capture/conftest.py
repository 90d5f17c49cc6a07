from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.adapter import Host
from tests.integration.capture.sample import Sample
from workflows_tasks.capture import installation


@pytest.fixture
def sample(live: Host) -> Sample:
    return Sample(live)


@pytest.fixture
def deployed(sample: Sample, settings: Any) -> Iterator[Sample]:
    """As installed; afterwards the settings of before are installed again."""
    before = dict(settings.RECENT_WORKFLOWS)
    assert not installation.install()
    yield sample
    settings.RECENT_WORKFLOWS = before
    assert not installation.install()
