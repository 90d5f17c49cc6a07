from __future__ import annotations

from tests.hosts import environment
from tests.hosts.environment import ADMIN_APPS, databases, recent_workflows

SECRET_KEY = "only-for-tests"
USE_TZ = True
TIME_ZONE = "Asia/Kolkata"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "workflows_tasks",  # before the app whose models it points to: the order must not matter
    *ADMIN_APPS,
    "tests.hosts.library",
    "backfill",
]
ROOT_URLCONF = "tests.hosts.urls"
STATIC_URL = "static/"
MIDDLEWARE = environment.MIDDLEWARE
TEMPLATES = environment.TEMPLATES
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
