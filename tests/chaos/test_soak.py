"""A short soak, and a small mass deletion with a real worker.

``make soak`` and ``python -m tests.chaos.mass_deletion`` are the long ones.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands import ROOT

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(240)]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, timeout=220, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(done.stdout)  # noqa: T201  # the summary, with its seed
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_table_is_exact_after_writers_and_disasters() -> None:
    told = run("tests.chaos.soak", "--operations", "1500", "--writers", "2", "--workers", "2", "--disaster-every", "1")
    assert "1,500 operations in" in told
    assert "exact" in told.splitlines()


def test_a_mass_deletion_with_a_worker_killed_every_three_seconds() -> None:
    told = run("tests.chaos.mass_deletion", "--case", "workflows", "--kill", "--scale", "0.05")
    assert "0 differences" not in told
    assert "MISSED" not in told
