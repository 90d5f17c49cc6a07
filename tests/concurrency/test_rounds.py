"""A few random rounds, for what the tests that step through interleavings did not think of."""

from __future__ import annotations

import os

import pytest

from tests.commands import python

ROUNDS = int(os.environ.get("CONCURRENCY_ROUNDS", "12"))


@pytest.mark.host_independent
@pytest.mark.timeout(120 + 10 * ROUNDS)
def test_rounds_end_exact_and_every_difference_is_explained() -> None:
    """More by ``python -m tests.concurrency.rounds``, or with ``CONCURRENCY_ROUNDS`` in the environment."""
    within_s = 120 + 10 * ROUNDS
    code, output = python("-m", "tests.concurrency.rounds", "--rounds", str(ROUNDS), within_s=within_s)
    assert code == 0, output
    assert f"rounds={ROUNDS} inexact=0 drift=0 unlike=0 not_fresh=0 errors=0" in output
