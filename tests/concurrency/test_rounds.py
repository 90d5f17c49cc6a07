"""A few random rounds, for what the tests that step through interleavings did not think of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("CONCURRENCY_ROUNDS", "12"))


@pytest.mark.host_independent
@pytest.mark.timeout(120 + 10 * ROUNDS)
def test_rounds_end_exact_and_every_difference_is_explained() -> None:
    """More by ``python -m tests.concurrency.rounds``, or with ``CONCURRENCY_ROUNDS`` in the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.concurrency.rounds", "--rounds", str(ROUNDS)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-4_000:]
    assert f"rounds={ROUNDS} inexact=0 drift=0 unlike=0 not_fresh=0 errors=0" in done.stdout
