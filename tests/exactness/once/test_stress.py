"""A few rounds of the stress, for what the tests that step through interleavings did not think of."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.exactness.rounds import settings_for_rounds, stage
from tests.exactness.stress import Outcome
from tests.hosts.adapter import Host

ROUNDS = int(os.environ.get("EXACTNESS_ROUNDS", "30"))


@pytest.mark.timeout(60 + 3 * ROUNDS)
def test_rounds_of_writers_flushers_and_a_filler_end_exact(live: Host, settings: Any) -> None:
    settings.RECENT_WORKFLOWS = settings_for_rounds()
    outcome = Outcome()
    with stage(delay_s=0.03) as play:
        for number in range(ROUNDS):
            play(number, outcome)
    assert (outcome.inexact, outcome.errors) == ([], [])
    assert outcome.rounds == ROUNDS
