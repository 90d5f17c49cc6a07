"""Start-up: register checks and tasks, and tell comparisons where history is not filled."""

from __future__ import annotations

import sys

from django.apps import AppConfig, apps


class BackfillConfig(AppConfig):
    name = "backfill"
    verbose_name = "Backfill"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        """Nothing here can be imported without ``workflows_tasks``: one line says so, in place of a traceback."""
        if not apps.is_installed("workflows_tasks"):
            sys.exit(
                "INSTALLED_APPS has backfill without workflows_tasks, which has the table that a backfill fills. "
                'Set: INSTALLED_APPS += ["workflows_tasks", "backfill"]'
            )
        super().import_models()

    def ready(self) -> None:
        from backfill import checks, tasks  # noqa: F401  # registered by being imported
        from backfill.coverage import advice, trouble, unfilled_sql
        from workflows_tasks import history

        history.register_unfilled(unfilled_sql, advice, trouble)
