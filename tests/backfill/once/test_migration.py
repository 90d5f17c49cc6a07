"""A host's migration enqueues a backfill, and does not run it."""

from __future__ import annotations

from datetime import datetime, timezone

from django.db import connection, migrations
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter

from backfill import EnqueueBackfill
from backfill.models import Run
from tests.backfill.history import History, assert_complete, carried_out
from tests.oracle import stored

SINCE = datetime(2026, 1, 1, tzinfo=timezone.utc)


def applied(operation: EnqueueBackfill) -> None:
    migration = type("Migration", (migrations.Migration,), {"operations": [operation]})("0002_fill", "bots")
    with connection.schema_editor(atomic=True) as editor:
        migration.apply(ProjectState(), editor)


def test_it_only_enqueues(history: History) -> None:
    applied(EnqueueBackfill(parallel=3, chunk_size=40))
    run = Run.objects.get()
    assert (run.status, run.parallel, run.chunk_size, run.planned_at) == ("enqueued", 3, 40, None)
    assert run.actor == "a migration of bots"
    assert stored() == []
    assert_complete(history, carried_out(run))


def test_going_back_leaves_it(history: History) -> None:
    migration = type("Migration", (migrations.Migration,), {"operations": [EnqueueBackfill()]})("0002_fill", "bots")
    with connection.schema_editor(atomic=True) as editor:
        migration.unapply(ProjectState(), editor)
    assert not Run.objects.exists()


def test_it_is_written_as_it_was_given() -> None:
    operation = EnqueueBackfill("1-100", since=SINCE, parallel=2)
    name, args, kwargs = operation.deconstruct()
    assert (name, args, kwargs) == ("EnqueueBackfill", [], {"workspaces": "1-100", "since": SINCE, "parallel": 2})
    text, imports = OperationWriter(operation).serialize()
    assert "EnqueueBackfill(" in text
    assert any("backfill" in each for each in imports)
