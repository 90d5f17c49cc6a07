"""What every host's settings take from the environment, so that workers and commands can be given a test's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from demo import settings as demo

OVERRIDES: Final = "TEST_RECENT_WORKFLOWS"
"""Environment variable: JSON of ``RECENT_WORKFLOWS`` keys to set; null takes a key away."""

DATABASE: Final = "TEST_DATABASE"
"""Environment variable: JSON of keys of the database's settings."""


def recent_workflows(**host: Any) -> dict[str, Any]:
    """``RECENT_WORKFLOWS`` of a host, with what the environment overrides."""
    merged: Mapping[str, Any] = {
        "REDIS_URL": os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
        **host,
        **json.loads(os.environ.get(OVERRIDES, "{}")),
    }
    return {key: value for key, value in merged.items() if value is not None}


def databases(host: str) -> dict[str, dict[str, Any]]:
    """The database in ``DATABASE_URL``. The test database is the process's own: several may share a server."""
    default = demo.DATABASES["default"] | json.loads(os.environ.get(DATABASE, "{}"))
    return {"default": {**default, "TEST": {"NAME": f"test_recent_workflows_{host}_{os.getpid()}"}}}
