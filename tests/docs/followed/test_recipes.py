"""The install page is followed on a project made for it, and every recipe on a copy of that project."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.docs.followed.conftest import Copy
from tests.docs.pages import DOCS, Command, Console, File, Step, page
from tests.docs.reader import Reader
from tests.programs import of_the_system
from tests.rabbitmq import PROGRAM, RabbitMQ

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(300)]

NAMES = sorted(path.stem for path in (DOCS / "recipes").glob("*.md") if path.stem != "index")
NEEDS = {"pgbouncer": "pgbouncer", "rabbitmq": PROGRAM}
"""Programs that are in no wheel."""

STREAM = "curl -sN --max-time {} localhost:8000/changes/1/"
LISTENER = "FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'"
AFTERWARDS: Final[Mapping[str, list[Step]]] = {
    "push": [
        Console([Command(f"({STREAM.format(300)}; echo over) > more.txt 2> /dev/null &")]),
        Console([Command("cat more.txt", "data: changed")], is_patient=True),
        Console([Command(f'psql proj -qc "SELECT pg_terminate_backend(pid) {LISTENER}"')]),
        Console([Command("cat more.txt", "data: changed\n\nover")], is_patient=True),
        Console([Command(f"{STREAM.format(5)} || true", "data: changed")]),
    ]
}
"""What a page says without showing it: by the recipe's name."""


@pytest.fixture
def rabbitmq(room: Path) -> Iterator[str]:
    server = RabbitMQ(room / f"rabbitmq-{uuid.uuid4()}")
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def test_install(installed: Reader) -> None:
    """The fixture follows the page."""
    assert (installed.directory / "proj" / "celery.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe(name: str, copy: Copy, request: pytest.FixtureRequest) -> None:
    if name in NEEDS:
        of_the_system(NEEDS[name])
    reader = copy(broker=request.getfixturevalue("rabbitmq") if name == "rabbitmq" else "")
    reader.follow([*page(f"recipes/{name}"), *AFTERWARDS.get(name, [])])


def test_the_watchdog_of_systemd_hears_a_worker_of_any_pool(copy: Copy, tmp_path: Path) -> None:
    reader = copy()
    reader.follow(step for step in page("recipes/liveness") if isinstance(step, File))
    for pool in ("prefork", "threads", "solo"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / pool))
            systemd.settimeout(30)
            where = f"NOTIFY_SOCKET={tmp_path / pool} WORKER_ALIVE={tmp_path / pool}.alive"
            worker = f"env {where} celery -A proj worker -P {pool} -Q recent-workflows --loglevel=INFO"
            reader.follow([Console([Command(worker)])])
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            assert (tmp_path / f"{pool}.alive").exists()
            reader.stop_services()
