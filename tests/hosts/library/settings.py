from __future__ import annotations

from tests.hosts.admin import *  # noqa: F403
from tests.hosts.admin import ADMIN_APPS
from tests.hosts.environment import databases, recent_workflows

USE_TZ = True
TIME_ZONE = "Asia/Kolkata"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "workflows_tasks",  # before the app whose models it points to: the order must not matter
    *ADMIN_APPS,
    "tests.hosts.library",
    "backfill",
]
DATABASES = databases("library")
RECENT_WORKFLOWS = recent_workflows(
    RUN_MODEL="library.Loan",
    WORKSPACE_FIELD="branch",
    USER_FIELD="borrower",
    PUBLISHED_RUN_PATH="title",
    USED_AT_FIELD="borrowed_at",
    RUN_FILTER="tests.hosts.library.rules.counts",
    SHARDS=3,
)
