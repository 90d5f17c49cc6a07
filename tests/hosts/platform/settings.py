from __future__ import annotations

from demo.settings import *  # noqa: F403
from demo.settings import INSTALLED_APPS as APPS_OF_THE_DEMO
from demo.settings import RECENT_WORKFLOWS as OF_THE_DEMO
from tests.hosts.environment import databases, recent_workflows

# Its trigger is a host's own; what is measured here is without it.
INSTALLED_APPS = [app for app in APPS_OF_THE_DEMO if app != "demo.push"]
DATABASES = databases("platform")
RECENT_WORKFLOWS = recent_workflows(**{k: v for k, v in OF_THE_DEMO.items() if k != "REDIS_URL"})
