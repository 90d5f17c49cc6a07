"""A host that deletes softly: its tests, in a process that has its settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.exactness.mutations import HERE


@pytest.mark.timeout(180)
def test_a_host_that_deletes_softly() -> None:
    servers = {f"TEST_{name}": os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(HERE / "softly" / "checks.py"), "-q", "-p", "no:cacheprovider"],
        env={**os.environ, **servers, "DJANGO_SETTINGS_MODULE": "tests.exactness.softly.settings"},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:]
    assert " passed" in done.stdout
