"""The demo host's settings; where the servers are comes from the environment, which ``demo`` fills in."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.db.models import Q

_database = urlsplit(os.environ.get("DATABASE_URL", "postgresql://postgres@localhost:5432/postgres"))

DEBUG = os.environ.get("DEBUG", "") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-the-demo")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "demo.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "demo.bots",
    "workflows_tasks",
    "backfill",
    "demo.push",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(_database.path.lstrip("/")),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "HOST": _database.hostname or "",
        "PORT": _database.port or "",
        "CONN_MAX_AGE": None,
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    # Django shows a view's traceback only in debug mode; a line for each request would hide everything else.
    "loggers": {
        "django.request": {"handlers": ["console"], "level": "ERROR"},
        "django.server": {"level": "ERROR", "propagate": False},
    },
}

RECENT_WORKFLOWS = {
    "RUN_MODEL": "bots.SavedRun",
    "WORKSPACE_FIELD": "workspace",
    "USER_FIELD": "uid",
    "PUBLISHED_RUN_PATH": "parent_version__published_run",
    "USED_AT_FIELD": "updated_at",
    "RUN_FILTER": Q(surface=0),
    "REDIS_URL": os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
}
if "SAVE_TIMEOUT_S" in os.environ:
    RECENT_WORKFLOWS["SAVE_TIMEOUT_S"] = float(os.environ["SAVE_TIMEOUT_S"])
