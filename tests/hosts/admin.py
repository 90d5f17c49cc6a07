"""Settings of a host that has nothing but Django's admin, and what that needs."""

from __future__ import annotations

from demo import settings as demo

SECRET_KEY = "only-for-tests"
ADMIN_APPS = [app for app in demo.INSTALLED_APPS if app.startswith("django.contrib.")]
ROOT_URLCONF = "tests.hosts.urls"
STATIC_URL = "static/"
MIDDLEWARE = demo.MIDDLEWARE
TEMPLATES = [{**demo.TEMPLATES[0], "DIRS": []}]
