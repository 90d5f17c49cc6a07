"""Everything fails while a backfill runs, in an installation of its own."""

from __future__ import annotations

import pytest

from tests.commands import ROOT


@pytest.mark.timeout(330)
def test_all_that_can_fail_before_it_is_through() -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "tests.backfill.rehearsal"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=320, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    failures = (
        "a worker killed",
        "the database restarted",
        "the broker killed",
        "beat killed",
        "stopped past its lease",
    )
    assert all(what in done.stdout for what in failures)
    assert "succeeded: " in done.stdout
    assert "differences: 0" in done.stdout
