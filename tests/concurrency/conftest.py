from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.concurrency.given import Given
from tests.concurrency.stepping import end_actors
from tests.hosts.adapter import Host


@pytest.fixture
def given(live: Host) -> Iterator[Given]:
    """What is there before the actors begin."""
    yield Given(live)
    end_actors()
