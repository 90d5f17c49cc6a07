from __future__ import annotations

from django.db.models import Q

from tests.hosts.environment import databases, recent_workflows

SECRET_KEY = "only-for-tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["safedelete", "tests.hosts.softly", "workflows_tasks"]
DATABASES = databases("softly")
RECENT_WORKFLOWS = recent_workflows(
    RUN_MODEL="softly.Visit",
    WORKSPACE_FIELD="site",
    USER_FIELD="visitor",
    PUBLISHED_RUN_PATH="edition__page",
    USED_AT_FIELD="seen_at",
    RUN_FILTER=Q(
        deleted__isnull=True,
        site__deleted__isnull=True,
        edition__deleted__isnull=True,
        edition__page__deleted__isnull=True,
    ),
    SHARDS=3,
)
