"""A short soak: ``make soak`` is the long one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands import ROOT

OPERATIONS = 4_000


@pytest.mark.timeout(240)
def test_the_table_is_exact_after_writers_and_disasters() -> None:
    soak = [sys.executable, "-m", "tests.endurance.soak", "--operations", str(OPERATIONS), "--rate", "200"]
    soak += ["--writers", "2", "--workers", "2", "--disaster-every", "1.5"]
    done = subprocess.run(
        soak, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=220, check=False
    )
    print(done.stdout)  # noqa: T201  # the summary, with its seed
    assert done.returncode == 0, done.stdout
    assert f"{OPERATIONS:,} in" in done.stdout
    assert "exact" in done.stdout
