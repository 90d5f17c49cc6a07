"""A step of a host's own migrations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.migrations.operations.base import Operation, OperationCategory


class EnqueueBackfill(Operation):
    """Enqueue a backfill when the migration is applied. It never runs inside ``migrate``: a worker plans and fills it.

    ::

        dependencies = [("backfill", "0001_initial")]
        operations = [EnqueueBackfill()]

    Put it into a release after the one that announces saves everywhere: a run that is saved by code that does not
    announce yet, after its chunk was filled, is found by the sweep at best. Migrating back leaves the backfill as it
    is; ``manage.py backfill cancel`` gives it up.

    Args:
        workspaces: as ``A-B``; all by default.
        since, chunk_size, parallel: as ``runner.start``.
    """

    category = OperationCategory.PYTHON  # type: ignore[assignment]  # it is an enum of str
    reduces_to_sql = False
    reversible = True

    def __init__(
        self,
        workspaces: str | None = None,
        *,
        since: datetime | None = None,
        chunk_size: int | None = None,
        parallel: int | None = None,
    ) -> None:
        self.workspaces = workspaces
        self.since = since
        self.chunk_size = chunk_size
        self.parallel = parallel

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        given = {name: value for name, value in vars(self).items() if not name.startswith("_") and value is not None}
        return type(self).__name__, [], given

    def state_forwards(self, app_label: str, state: Any) -> None:
        return

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        from backfill import runner
        from workflows_tasks import operations
        from workflows_tasks.host import host

        if schema_editor.connection.alias == host().database:
            runner.start(
                operations.workspaces(self.workspaces),
                since=self.since,
                chunk_size=self.chunk_size,
                parallel=self.parallel,
                actor=f"a migration of {app_label}",
            )

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        return

    def describe(self) -> str:
        return "Enqueue a backfill of recent workflows"
