"""Start-up: register checks and tasks, and tell comparisons where chunks are open."""

from __future__ import annotations

from django.apps import AppConfig


class BackfillConfig(AppConfig):
    name = "backfill"
    verbose_name = "Backfill"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from backfill import checks, tasks  # noqa: F401  # registered by being imported
        from backfill.coverage import open_sql
        from workflows_tasks import history

        history.open_chunks(open_sql)
