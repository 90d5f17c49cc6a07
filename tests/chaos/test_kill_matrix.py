"""SIGKILL and SIGSTOP before and after each statement of a flush and of a fill; the stopped one goes on afterwards.

``KILL_ALL=1`` in the environment strikes at every statement. The suite strikes after each by SIGKILL, which is
before the next, and stops at some of them: the server takes a moment to end a session that stands still.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.chaos.kills import Scene, Victim, fill_struck, flush_struck, victim
from tests.hosts.adapter import Host

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(600 if os.environ.get("KILL_ALL") else 90)]

EVERY_STOP = 1 if os.environ.get("KILL_ALL") else 6
KILL_BEFORE = bool(os.environ.get("KILL_ALL"))

STANDS_STILL = {"FLUSH_WINDOW_S": 0.2, "FLUSH_TIME_LIMIT_S": 0.8}
"""The server ends a flush's session that has stood still for half of the time limit."""


@pytest.fixture
def scene(live: Host) -> Scene:
    return Scene(live)


@pytest.fixture
def by(node_env: dict[str, str], live: Host) -> Iterator[Victim]:
    with victim(node_env) as ready:
        yield ready


def strikes(statements: int) -> list[tuple[int, bool, signal.Signals]]:
    """Where, whether after it, and by what."""
    sides = (False, True) if KILL_BEFORE else (True,)
    kills = [(at, after, signal.SIGKILL) for at in range(statements) for after in sides]
    stops = [(at, after, signal.SIGSTOP) for at in range(0, statements, EVERY_STOP) for after in (False, True)]
    return kills + stops


@pytest.mark.workers(**STANDS_STILL)
def test_a_flush_struck_at_any_statement(scene: Scene, by: Victim) -> None:
    for _ in range(2):  # the second as all that follow
        scene.settle()
        scene.change()
        statements = by.statements("flush", scene.shard)
    assert any("locked AS MATERIALIZED" in text for text in statements), "nothing is recomputed"
    assert any("INSERT INTO" in text for text in statements), "nothing is advanced"
    for at, after, sig in strikes(len(statements)):
        flush_struck(scene, by, at=at, after=after, sig=sig)


@pytest.mark.workers(**STANDS_STILL)
def test_a_fill_struck_at_any_statement(scene: Scene, by: Victim) -> None:
    scene.empty()
    statements = by.statements("fill", scene.text)
    assert len(statements) >= 4
    for at, after, sig in strikes(len(statements)):
        fill_struck(scene, by, at=at, after=after, sig=sig)
