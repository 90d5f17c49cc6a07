"""Every recipe is followed, on a copy of the project that docs/install.md makes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.followed.conftest import Host
from tests.docs.pages import DOCS, Page
from tests.programs import of_the_system
from tests.rabbitmq import PROGRAM, RabbitMQ

NAMES = sorted(path.stem for path in (DOCS / "recipes").glob("*.md") if path.stem != "index")
NEEDS = {"pgbouncer": "pgbouncer", "rabbitmq": PROGRAM}
"""Programs that are in no wheel."""


@pytest.fixture
def rabbitmq(room: Path) -> Iterator[str]:
    """The URL of a broker: the one that is given, or one of our own."""
    server = RabbitMQ(room / f"rabbitmq-{uuid.uuid4()}")
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe(name: str, host: Host, request: pytest.FixtureRequest) -> None:
    if name in NEEDS:
        of_the_system(NEEDS[name])
    broker = request.getfixturevalue("rabbitmq") if name == "rabbitmq" else None
    host(broker=broker).follow(Page.read(f"recipes/{name}"))
