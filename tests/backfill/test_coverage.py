"""Whether a workspace's history is in, and where a chunk explains that table and runs differ."""

from __future__ import annotations

from collections import defaultdict

import pytest

from backfill import control, leases, worker
from backfill.coverage import advice, is_filled
from backfill.models import Backfill
from tests.backfill.given import SMALL, History, carry_out, fill_all, plan_backfill, refused, start_backfill
from tests.oracle import flush_all
from tests.sessions import execute
from workflows_tasks import history as package
from workflows_tasks.capture.record import installation
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.history import EVERYWHERE
from workflows_tasks.models import Installation, WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


def test_a_workspace_is_filled_when_all_its_chunks_are(history: History) -> None:
    everything = [history.heavy, *history.light]
    assert not is_filled(history.heavy)
    backfill = plan_backfill(concurrency=1, chunk_size=3 * SMALL)
    assert not is_filled(history.heavy)
    seen = set()
    while (lease := leases.claim(backfill.pk)) and lease.chunk.kind == "fill":
        worker._attempt(lease, 1e12)
        seen.add(tuple(is_filled(workspace) for workspace in everything))
    assert len(seen) >= 3, "workspaces become covered one after the other"
    assert all(is_filled(workspace) for workspace in everything)
    assert is_filled(history.host.make_workspace()), "it had no runs to fill"


def test_a_backfill_of_other_workspaces_is_none(history: History) -> None:
    carry_out(start_backfill(history.only(history.light[0])))
    assert is_filled(history.light[0])
    assert is_filled(history.host.workspace_key(history.light[0]))
    assert not is_filled(history.heavy)
    with pytest.raises(InvalidArgument):
        is_filled(None)


def states() -> set[str]:
    return {difference.state for difference in package.compare(EVERYWHERE)}


@pytest.fixture
def lacking(history: History) -> History:
    """As the first installation notes it where runs are there already."""
    installation()
    Installation.objects.update(lacks_history=True)
    return history


def by_state() -> dict[str, set[str]]:
    """Workspaces, by the state of a difference there."""
    found = defaultdict(set)
    for difference in package.compare(EVERYWHERE):
        found[difference.state].add(difference.workspace)
    return found


def test_history_that_nobody_has_planned_is_no_drift_if_the_host_had_any(lacking: History) -> None:
    assert states() == {"unfilled"}
    lacking.save_run(lacking.heavy)
    assert states() == {"unfilled", "waiting"}, "what a change explains is not put down to history"
    package.note_filled()
    flush_all()
    assert states() == {"drift"}


def test_a_backfill_of_a_range_makes_the_audit_see_that_range_only(lacking: History) -> None:
    filled = lacking.light[0]
    carry_out(start_backfill(lacking.only(filled)))
    WorkspaceRecentWorkflow.objects.filter(workspace_id=lacking.host.workspace_key(filled)).delete()
    others = {lacking.text(each) for each in (lacking.heavy, *lacking.light)} - {lacking.text(filled)}
    assert by_state() == {"drift": {lacking.text(filled)}, "unfilled": others}
    assert package.lacks_history()


def test_once_a_backfill_of_everything_has_succeeded_nothing_is_lacking(lacking: History) -> None:
    """Whoever deletes old backfills does not make the audit blind."""
    backfill = plan_backfill()
    fill_all(backfill)
    assert package.lacks_history(), "nobody has verified it"
    carry_out(backfill)
    assert not package.lacks_history()
    Backfill.objects.all().delete()
    WorkspaceRecentWorkflow.objects.filter(uid="")[0].delete()
    assert states() == {"drift"}


def test_what_to_do_about_it(lacking: History) -> None:
    start = "run: manage.py backfill start"
    assert advice() == start
    backfill = plan_backfill()
    assert advice() == f"see backfill {backfill.pk} (running): manage.py backfill status {backfill.pk}"
    control.cancel(backfill.pk, actor="a test")
    assert advice() == start
    bad = lacking.newest(lacking.light[4])
    with refused(bad):
        failed = carry_out(start_backfill()).backfill
    assert advice() == f"see backfill {failed.pk} (failed): manage.py backfill status {failed.pk}"
    assert package.lacks_history()


def test_history_that_is_planned_and_not_filled_is_no_drift(history: History) -> None:
    """Nor is it where its backfill was cancelled, until another has filled it."""
    assert states() == {"drift"}, "the host had none when capture was installed, and nobody has planned it"
    backfill = plan_backfill()
    assert states() == {"unfilled"}
    control.cancel(backfill.pk, actor="a test")
    assert control.get(backfill.pk).status == "cancelled"
    assert states() == {"unfilled"}
    carry_out(start_backfill())
    assert states() == set()
    WorkspaceRecentWorkflow.objects.filter(uid="")[0].delete()
    assert states() == {"drift"}


def test_comparing_goes_on_before_the_tables_are_migrated(lacking: History) -> None:
    execute("ALTER TABLE backfill_chunk RENAME TO renamed")
    try:
        assert states() == {"unfilled"}
        assert advice() == "run: manage.py migrate"
        package.note_filled()
        assert states() == {"drift"}
    finally:
        execute("ALTER TABLE renamed RENAME TO backfill_chunk")
