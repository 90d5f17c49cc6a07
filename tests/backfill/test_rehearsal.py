"""Everything fails while a backfill runs, in an installation of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands import ROOT

pytestmark = pytest.mark.host_independent


@pytest.mark.timeout(330)
def test_all_that_can_fail_before_it_is_through() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.backfill.rehearsal", "10000"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=320, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for what in ("a worker killed", "the database crashed", "the broker killed", "beat killed", "past its lease"):
        assert what in done.stdout
    assert "succeeded: " in done.stdout
    assert "differences: 0" in done.stdout
