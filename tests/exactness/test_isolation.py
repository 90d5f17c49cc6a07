"""A host whose transactions are not READ COMMITTED: a flush must still read after its lock is granted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from tests.exactness.isolation import default_isolation, isolation_in_settings
from tests.exactness.scene import Scene
from tests.exactness.stepping import Actor
from workflows_tasks import projection

pytestmark = pytest.mark.usefixtures("strict")


STRICT: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "repeatable read": lambda: default_isolation("repeatable read"),
    "serializable": lambda: default_isolation("serializable"),
    "in settings": lambda: isolation_in_settings(IsolationLevel.REPEATABLE_READ),
}


@pytest.fixture(params=STRICT)
def strict(transactional_db: None, request: pytest.FixtureRequest) -> Iterator[None]:
    with STRICT[request.param]():
        yield


@pytest.mark.parametrize("runner_up", [True, False], ids=["set back", "removed"])
def test_ce1_with_one_snapshot_for_a_whole_transaction(scene: Scene, runner_up: bool) -> None:
    """CE1: R4.5 arrives while R5's row is set back. Its flush waits for the lock, in a transaction that has a snapshot
    by then. Nothing collides, so nothing is refused: it would see the row as it was, and leave it."""
    if runner_up:
        scene.run(4)
    newest = scene.run(5)
    scene.settle()
    newest.delete()
    lowering = scene.flush("searched")
    assert lowering.is_paused
    arrived = scene.run(4.5)
    raising = scene.flush()
    assert raising.waits
    lowering.finish()
    raising.finish()
    scene.shows(arrived)


def test_two_flushes_of_one_row(scene: Scene) -> None:
    """The second waits for the first, and writes the same row; nothing is refused and nothing tried again."""
    scene.run(4)
    scene.settle()
    scene.run(5)
    first = scene.flush("raised")
    newest = scene.run(6)
    second = scene.flush()
    first.finish()
    second.finish()
    scene.shows(newest)


def test_a_fill_beside_a_flush_of_one_row(scene: Scene) -> None:
    """A fill waits for the row that a flush has written; its own, older run must not be refused for that either."""
    scene.run(4)
    scene.settle()
    newest = scene.run(6)
    raising = scene.flush("raised")
    scene.silent_run(5)
    filling = Actor(projection.fill).stands()
    assert filling.waits
    raising.finish()
    assert filling.finish() == (0, [])
    scene.shows(newest)
