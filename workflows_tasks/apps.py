"""Start-up: checks are registered. If the settings can be used, saves nudge and ``migrate`` installs triggers."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from workflows_tasks.errors import ConfigurationError


class WorkflowsTasksConfig(AppConfig):
    name = "workflows_tasks"
    verbose_name = "Recent workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows_tasks import checks, reads, tasks  # noqa: F401  # registered by being imported
        from workflows_tasks.capture import installation, nudge
        from workflows_tasks.host import host

        checks.register()
        # Unusable settings are logged by models and reported by the checks; a host's saves go on without us.
        with suppress(ConfigurationError, ImportError):
            nudge.connect(host())
            post_migrate.connect(
                installation.install_after_migrate, sender=self, dispatch_uid="workflows_tasks.installation"
            )
