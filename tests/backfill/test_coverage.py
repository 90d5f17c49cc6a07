"""Whether a workspace's history is in, and where a chunk explains that table and runs differ."""

from __future__ import annotations

import pytest

from backfill import control, leases, worker
from backfill.coverage import is_filled
from tests.backfill.given import SMALL, History, carried_out, planned, started
from tests.hosts.adapter import Host
from tests.sessions import execute
from workflows_tasks import history as package
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.history import EVERYWHERE
from workflows_tasks.models import WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


def test_a_workspace_is_filled_when_all_its_chunks_are(history: History) -> None:
    everything = [history.heavy, *history.light]
    assert not is_filled(history.heavy)
    backfill = planned(concurrency=1, chunk_size=3 * SMALL)
    assert not is_filled(history.heavy)
    seen = set()
    while (lease := leases.claim(backfill.pk)) and lease.chunk.kind == "fill":
        worker._attempt(lease, 1e12)
        seen.add(tuple(is_filled(workspace) for workspace in everything))
    assert len(seen) >= 3, "workspaces become covered one after the other"
    assert all(is_filled(workspace) for workspace in everything)
    assert is_filled(history.host.make_workspace()), "it had no runs to fill"


def test_a_backfill_of_other_workspaces_is_none(history: History) -> None:
    carried_out(started(history.only(history.light[0])))
    assert is_filled(history.light[0])
    assert is_filled(history.host.workspace_key(history.light[0]))
    assert not is_filled(history.heavy)
    with pytest.raises(InvalidArgument):
        is_filled(None)


def states() -> set[str]:
    return {difference.state for difference in package.compare(EVERYWHERE)}


def test_history_that_is_planned_and_not_filled_is_no_drift(history: History) -> None:
    """Nor is it where its backfill was cancelled, until another has filled it."""
    assert states() == {"drift"}, "nobody has planned it"
    backfill = planned()
    assert states() == {"waiting"}
    control.cancel(backfill.pk, actor="a test")
    assert control.get(backfill.pk).status == "cancelled"
    assert states() == {"waiting"}
    carried_out(started())
    assert states() == set()
    WorkspaceRecentWorkflow.objects.filter(uid="")[0].delete()
    assert states() == {"drift"}


def test_comparing_goes_on_before_the_tables_are_migrated(live: Host) -> None:
    execute("ALTER TABLE backfill_chunk RENAME TO renamed")
    try:
        assert states() == set()
    finally:
        execute("ALTER TABLE renamed RENAME TO backfill_chunk")
