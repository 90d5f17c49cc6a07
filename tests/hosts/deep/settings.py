from __future__ import annotations

from django.db.models import Q

from tests.hosts import environment
from tests.hosts.environment import ADMIN_APPS, databases, recent_workflows

SECRET_KEY = "only-for-tests"
USE_TZ = False
TIME_ZONE = "America/New_York"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = [*ADMIN_APPS, "backfill", "tests.hosts.deep", "workflows_tasks"]
ROOT_URLCONF = "tests.hosts.urls"
STATIC_URL = "static/"
MIDDLEWARE = environment.MIDDLEWARE
TEMPLATES = environment.TEMPLATES
DATABASES = databases("deep")
RECENT_WORKFLOWS = recent_workflows(
    RUN_MODEL="workshop.Job",
    WORKSPACE_FIELD="team",
    USER_FIELD="member",
    PUBLISHED_RUN_PATH="ticket__revision__blueprint",
    USED_AT_FIELD="finished_at",
    RUN_FILTER=Q(archived=False, team__disbanded=False) & ~Q(kind="rehearsal"),
    SHARDS=5,
)
