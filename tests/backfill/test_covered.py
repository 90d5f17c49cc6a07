"""Whether a workspace's history is in, and whether the old query agrees."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from django.db import connection as django_connection
from django.db import transaction

from backfill import coverage, leases, shadow, work
from backfill.shadow import Outcome
from tests.backfill.history import History, carried_out, planned, started
from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from workflows_tasks import events, inbox
from workflows_tasks.breaker import Breaker
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.inbox import connection
from workflows_tasks.sql.fragments import Workspaces


@pytest.fixture(autouse=True)
def no_outage_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "_breaker", Breaker("shadow"))


def test_a_workspace_is_filled_when_all_its_chunks_are(history: History) -> None:
    assert coverage(history.heavy) == (False, False)
    run = planned(parallel=1)
    assert coverage(history.heavy) == (False, False)
    seen = set()
    while (lease := leases.claim(run.pk)) and lease.chunk.kind == "fill":
        work._attempt(lease, time.monotonic() + 60)
        seen.add((coverage(history.heavy), *(coverage(workspace) for workspace in history.light)))
    assert len(seen) >= 3, "workspaces become covered one after the other"
    assert all(coverage(workspace) == (True, False) for workspace in [history.heavy, *history.light])
    if lease is not None:
        leases.release(lease)
    carried_out(run)
    assert all(coverage(workspace) == (True, True) for workspace in [history.heavy, *history.light])
    assert coverage(history.host.make_workspace()) == (True, True)


def test_a_backfill_of_other_workspaces_or_of_a_part_of_history_is_none(history: History) -> None:
    key = history.key(history.light[0])
    carried_out(started(workspaces=Workspaces(key, key)))
    carried_out(started(since=moment(5)))
    assert coverage(history.light[0]).is_filled
    assert not coverage(history.heavy).is_filled


def test_no_workspace_at_all(live: Host) -> None:
    with pytest.raises(InvalidArgument):
        coverage(None)


def latest(history: History, workspace: Any, limit: int = 4) -> list[Any]:
    """The old query: runs of the workspace, the latest of each workflow."""
    newest: dict[Any, Any] = {}
    ranks = {
        pk: n for n, pk in enumerate(history.host.run_model._base_manager.order_by("pk").values_list("pk", flat=True))
    }
    runs = [t for t in history.host.truths() if t.counts and t.workspace == history.key(workspace) and t.workflow]
    for run in sorted(runs, key=lambda t: (t.used_at, ranks[t.run]), reverse=True):
        newest.setdefault(run.workflow, run.run)
    return list(newest.values())[:limit]


def test_the_old_answer_beside_the_tables(history: History) -> None:
    workspace = history.light[0]
    old = latest(history, workspace)
    assert shadow.observe(old, workspace, share=1) == Outcome.UNCOVERED
    carried_out(started())
    assert shadow.observe(old, workspace, share=1) == Outcome.SAME
    assert shadow.observe(reversed(old), workspace, share=1) == Outcome.DIFFERENT
    newest = history.saved(workspace)
    assert shadow.observe([newest], workspace, limit=1, share=1) == Outcome.PENDING
    flush_all()
    assert shadow.observe([newest], workspace, limit=1, share=1) == Outcome.SAME
    stats = events.merged(shard.stats for shard in inbox.status())
    counted = {name: stats.get(name) for name in events.COUNTERS if name.startswith("shadow_")}
    assert counted == {"shadow_reads": 5, "shadow_different": 1, "shadow_pending": 1, "shadow_uncovered": 1}


def test_what_cannot_be_compared_harms_nobody(history: History, caplog: pytest.LogCaptureFixture) -> None:
    assert shadow.observe([object()], None, share=1) == Outcome.FAILED
    assert "shadow read not compared" in caplog.text
    assert shadow.observe([object()], None, share=0) is None


def test_a_page_does_not_wait_for_a_redis_that_hangs(history: History, configure: Configure) -> None:
    """As long as a save does, once; then nothing is asked for a while."""
    with Gate(os.environ["REDIS_URL"]) as gate:
        configure(REDIS_URL=gate.url, SAVE_TIMEOUT_S=0.1, BREAKER_S=60.0)
        gate.hang()
        began_s = time.monotonic()
        assert shadow.observe([], history.heavy, share=1) == Outcome.FAILED
        assert time.monotonic() - began_s < connection.WORKER_TIMEOUT_S
        asked = gate.connections
        assert shadow.observe([], history.heavy, share=1) == Outcome.FAILED
        assert gate.connections == asked


def test_a_transaction_of_the_host_is_not_harmed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the web's role may not read the backfill's tables."""

    def refused(_: object) -> None:
        with django_connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    monkeypatch.setattr(shadow, "coverage", refused)
    with transaction.atomic():
        assert shadow.observe(latest(history, history.heavy), history.heavy, share=1) == Outcome.FAILED
        assert history.host.run_model._base_manager.exists()
