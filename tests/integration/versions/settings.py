"""The demo's project for the servers under test; the environment says which."""

from __future__ import annotations

import json
import os

from demo.settings import *  # noqa: F403
from demo.settings import DATABASES, RECENT_WORKFLOWS

DATABASES["default"] |= json.loads(os.environ.get("VERSIONS_DATABASE", "{}"))
RECENT_WORKFLOWS |= json.loads(os.environ.get("VERSIONS_RECENT_WORKFLOWS", "{}"))
