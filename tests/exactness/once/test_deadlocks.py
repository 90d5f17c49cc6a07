"""Rows are locked in key order by everybody: no deadlock, however many write; without the order there are."""

from __future__ import annotations

import os

import pytest

from tests.conftest import Configure
from tests.exactness import mutants
from tests.exactness.storm import DEADLOCK, Storm
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all
from workflows_tasks import announce, repair
from workflows_tasks.sql import writes

BATCHES = int(os.environ.get("EXACTNESS_BATCHES", "12"))
"""Batches of each of the eight writers; 150 for the full storm."""


@pytest.mark.timeout(600)
def test_eight_writers_and_two_fillers_never_deadlock(
    live: Host, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SHARDS=1)
    storm = Storm(live, monkeypatch)
    storm.rage(BATCHES)
    assert storm.retries == {}
    announce(live.run_model._base_manager.all())
    flush_all()
    assert len(assert_exact(live)) == 1_020
    assert repair.audit() == 0


@pytest.mark.timeout(600)
def test_without_the_order_they_do(live: Host, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the storm is able to find, sooner or later."""
    configure(SHARDS=1)
    for words in ("upsert", "lower_rows"):
        monkeypatch.setattr(writes, words, getattr(writes, words))  # put back at the end
    mutants.apply("unsorted-keys")
    mutants.apply("unsorted-lowering")
    storm = Storm(live, monkeypatch)
    storm.rage(150, until=DEADLOCK)
    assert storm.retries[DEADLOCK] > 0
