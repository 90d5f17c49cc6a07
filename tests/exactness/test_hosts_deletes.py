"""A host's delete is announced in the host's own transaction. Nothing here may make it fail or wait long."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from tests.exactness.isolation import default_isolation
from tests.exactness.scene import TABLE, Scene
from tests.exactness.stepping import Actor, locked
from tests.exactness.test_lowering import HAS_VERSIONS
from workflows_tasks.host import host as resolved

LOCK_ONE_ROW = f"SELECT FROM {TABLE} WHERE workspace_id = %s AND uid = '' AND published_run_id = %s FOR UPDATE"


@contextmanager
def limited_role(*statements: str) -> Iterator[None]:
    """Within, this connection is a role's that has been granted and revoked this much; its name is added to each."""
    role = f"limited_{uuid.uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role}")
        for statement in statements:
            cursor.execute(f"{statement} {'TO' if statement.startswith('GRANT') else 'FROM'} {role}")
        cursor.execute(f"SET ROLE {role}")
        try:
            yield
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


def test_a_workflows_delete_is_not_refused_for_a_deadlock_with_a_flush(scene: Scene) -> None:
    """A flush locks rows in key order: the earlier workspace's first. The workflow's cascade meets the same rows in
    the order in which they lie. Whoever looks for a deadlock first is refused; a flush would be tried again, but a
    host's delete would fail for a table that it does not know."""
    deleted, middle = sorted((scene.host.make_workflow() for _ in range(2)), key=lambda made: made.pk)
    places = [(scene.workspace, deleted), (scene.earlier, deleted), (scene.earlier, middle)]
    for workspace, workflow in places:
        scene.run(1, workspace=workspace, workflow=workflow)
        scene.settle()  # one after the other, so that the last key's row lies first
    for workspace, workflow in places:
        newest = scene.run(2, workspace=workspace, workflow=workflow)
    with locked(LOCK_ONE_ROW, scene.key_of(scene.earlier), middle.pk):
        flushing = scene.flush()  # holds the first row, waits for the middle one
        assert flushing.waits
        deleting: Actor[Any] = Actor(deleted.delete).stands()  # may hold the last row, and wait for the first
    flushing.finish()  # comes to the last
    deleting.finish()
    scene.shows(newest)


@pytest.mark.parametrize("what", ["workspace", "workflow"])
def test_a_delete_is_not_refused_for_a_flush_since_its_snapshot(
    scene: Scene, what: str, request: pytest.FixtureRequest
) -> None:
    """REPEATABLE READ: a transaction may not touch rows that others have changed since it began. The host's own rows
    are as they were; a flush, a second after the save that it is for, has changed one of ours."""
    with default_isolation("repeatable read"):
        run = scene.run(1)
        scene.settle()
        scene.host.save_again(run)
        with transaction.atomic():
            scene.host.workspace_model._base_manager.count()  # the snapshot
            scene.flush().finish()
            getattr(scene, what).delete()
        scene.shows()


def test_a_delete_waits_for_no_lock_that_a_flush_keeps(scene: Scene) -> None:
    """A flush may be stopped in the middle of its transaction, with the rows that it has written locked. The server
    ends its session after half of a flush's time; a host's delete waits no longer than that."""
    run = scene.run(1)
    scene.settle()
    scene.host.save_again(run)
    flushing = scene.flush("raised")
    assert flushing.is_paused
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
        scene.workflow.delete()
        cursor.execute("RESET lock_timeout")
    flushing.finish()
    scene.shows()


@pytest.mark.skipif(not HAS_VERSIONS, reason="this host's runs point to their workflow")
def test_a_version_is_deleted_by_a_role_that_may_not_lock_it(scene: Scene) -> None:
    """A look at where the version leads is refused, and the transaction in which it is goes on."""
    run = scene.run(1)
    scene.settle()
    version = getattr(run, resolved().path[0].name)
    table = version._meta.db_table
    with limited_role("GRANT ALL ON ALL TABLES IN SCHEMA public", f"REVOKE UPDATE ON {table}"), transaction.atomic():
        version.delete()
    assert not type(version).objects.filter(pk=version.pk).exists()
