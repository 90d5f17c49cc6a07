"""Start-up: checks are registered, and if the settings can be used, the host's runs are watched."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig

from workflows_tasks.errors import ConfigurationError


class WorkflowsTasksConfig(AppConfig):
    name = "workflows_tasks"
    verbose_name = "Recent workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows_tasks import checks, signals, tasks  # noqa: F401  # registered by being imported
        from workflows_tasks.host import host

        checks.register()
        # Unusable settings are logged by models and reported by the checks; a host's saves go on without us.
        with suppress(ConfigurationError, ImportError):
            signals.connect(host())
