"""Settings of the host of ``models``, which only the random rounds use."""

from __future__ import annotations

from django.db.models import Q

from demo import settings as demo

SECRET_KEY = "only-for-tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tests.concurrency", "workflows_tasks"]
DATABASES = demo.DATABASES
RECENT_WORKFLOWS = {
    "RUN_MODEL": "concurrency.Run",
    "WORKSPACE_FIELD": "workspace",
    "USER_FIELD": "user",
    "PUBLISHED_RUN_PATH": "version__line__workflow",
    "USED_AT_FIELD": "used_at",
    "RUN_FILTER": Q(hidden=False, workspace__hidden=False),
    "SHARDS": 2,
}
