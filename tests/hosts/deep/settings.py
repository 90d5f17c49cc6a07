from __future__ import annotations

from django.db.models import Q

from tests.hosts.admin import *  # noqa: F403
from tests.hosts.admin import ADMIN_APPS
from tests.hosts.environment import databases, recent_workflows

USE_TZ = False
TIME_ZONE = "America/New_York"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = [*ADMIN_APPS, "backfill", "tests.hosts.deep", "workflows_tasks"]
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
