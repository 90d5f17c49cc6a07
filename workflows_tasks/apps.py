"""Start-up: checks are registered. If the settings can be used, saves nudge and ``migrate`` installs triggers."""

from __future__ import annotations

import logging

from django.apps import AppConfig
from django.core.signals import request_started
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
        try:
            nudge.connect(host())
        except (ConfigurationError, ImportError):  # a host's saves go on without us
            request_started.connect(_tell_once, dispatch_uid="workflows_tasks.unusable")
            return
        post_migrate.connect(
            installation.install_after_migrate, sender=self, dispatch_uid="workflows_tasks.installation"
        )


def _tell_once(**_: object) -> None:
    """Log why the settings cannot be used, at the first request. Commands and Celery's workers run the checks."""
    from workflows_tasks.host import host

    request_started.disconnect(dispatch_uid="workflows_tasks.unusable")
    try:
        host()
    except (ConfigurationError, ImportError) as error:
        logging.getLogger(__name__).error("%s", error)
