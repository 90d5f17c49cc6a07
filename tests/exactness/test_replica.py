"""A host that reads from a replica: what was just written may not be there yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections

from tests.exactness.scene import Scene
from tests.oracle import flush_all
from workflows_tasks import announce, recent_workflows
from workflows_tasks.sql.fragments import fragments

REPLICA = "replica"


class ReadsOnly:
    """The router of a process that must not even ask where to write."""

    def db_for_read(self, model: Any, **_: Any) -> str:
        return connection.alias

    def db_for_write(self, model: Any, **_: Any) -> str:
        raise RuntimeError(f"{model} is only read here")


class FromReplica:
    """A host's router."""

    def db_for_read(self, model: Any, **_: Any) -> str:
        return REPLICA

    def db_for_write(self, model: Any, **_: Any) -> str:
        return connection.alias


@pytest.fixture
def replica(scene: Scene, settings: Any) -> Iterator[None]:
    """Reads are of how things were at its start: an open transaction's one snapshot, as of a replica that lags."""
    connections.settings[REPLICA] = connections.settings[connection.alias]
    lagging = connections[REPLICA]
    try:
        with lagging.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM pg_class")
        settings.DATABASE_ROUTERS = [FromReplica()]
        yield
    finally:
        settings.DATABASE_ROUTERS = []
        lagging.close()
        del connections[REPLICA]
        del connections.settings[REPLICA]


def test_a_queryset_is_announced_as_it_was_written(scene: Scene, replica: None) -> None:
    """It is not yet in what the host would read; that it asks for no database does not mean the replica."""
    host = scene.host
    (pk,) = host.make_runs(1, workspaces=[scene.workspace], workflows=[scene.workflow], users=[scene.user])
    written = host.run_model._base_manager.filter(pk=pk)
    assert not written.exists()
    assert announce(written) == 1
    assert announce(written.using(REPLICA)) == 0


def test_a_page_is_read_where_nothing_can_be_written(scene: Scene, settings: Any) -> None:
    """Nor is it known there where that would be, nor which runs count."""
    scene.run(1)
    flush_all()
    expected = list(recent_workflows(scene.workspace))
    assert expected
    settings.DATABASE_ROUTERS = [ReadsOnly()]
    fragments.cache_clear()
    assert list(recent_workflows(scene.workspace)) == expected
