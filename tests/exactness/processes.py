"""The package in a process of its own, as a worker or an operator has it: nothing is remembered from before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from tests.hosts.environment import OVERRIDES

WITHIN_S: Final = 30.0


def call_in_new_process(expression: str) -> Any:
    """The value of an expression over the package's modules ``repair``, ``inbox`` and ``flush``; it must be JSON."""
    code = (
        "import django, json; django.setup(); from workflows_tasks import flush, inbox, repair;"
        f" print(json.dumps({expression}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    """This process's, with the test's own database and settings."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    simple = {k: v for k, v in settings.RECENT_WORKFLOWS.items() if isinstance(v, str | int | float)}
    return {**os.environ, "DATABASE_URL": url.geturl(), OVERRIDES: json.dumps(simple)}
