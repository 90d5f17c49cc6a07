"""The rolling audit: a part a step, through all workspaces, wherever it was stopped."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError

from tests.conftest import Configure
from tests.integration.comparison.corruptions import ThreeWorkspaces, lose_changes
from tests.oracle import flush_all
from workflows_tasks import history
from workflows_tasks.capture import record
from workflows_tasks.comparison import audit, verify
from workflows_tasks.comparison import compare as comparing
from workflows_tasks.models import Installation
from workflows_tasks.projection.ranges import Range

pytestmark = pytest.mark.host_independent


def installation() -> Installation:
    row: Installation = Installation.objects.get()
    return row


@pytest.fixture
def lost(three: ThreeWorkspaces, configure: Configure) -> ThreeWorkspaces:
    """A run that nobody has heard of in each workspace; a step is one workspace."""
    configure(AUDIT_CHUNK=1, AUDIT_PERIOD_S=1e12)
    for workspace in (three.earlier, three.workspace, three.beyond):
        three.run(1, workspace=workspace)
    lose_changes()
    return three


def test_a_round_finds_each_once_goes_on_where_it_was_and_starts_over(lost: ThreeWorkspaces) -> None:
    """Where it is stands in the database: each step may be another process's."""
    texts = [history.workspace_text(each) for each in (lost.earlier, lost.workspace, lost.beyond)]
    positions: list[str | None] = []
    for _ in range(4):
        assert audit.step() == (1 if len(positions) < 3 else 0)
        positions.append(installation().audit_after)
    assert positions == [*texts, None]
    assert installation().audited_at is not None
    flush_all()
    lost.run(2, workspace=lost.earlier, workflow=lost.host.make_workflow())
    lose_changes()
    assert audit.step() == 1


def test_it_takes_as_many_parts_as_it_needs_to_be_round_within_the_period(
    lost: ThreeWorkspaces, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(AUDIT_CHUNK=10, AUDIT_PERIOD_S=100.0, AUDIT_STEP_S=10.0)
    for runs, parts in ((0, 1), (100, 1), (1_000, 10), (1_001, 11)):
        monkeypatch.setattr(verify, "estimated_runs", lambda runs=runs: runs)
        assert audit._parts_a_step() == parts


def test_what_fails_is_kept_for_the_operator_and_passed_over(
    lost: ThreeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = history.workspace_text(lost.workspace)
    whole = comparing.compare

    def compare(among: Range, **how: Any) -> Any:
        if among.last == slow:
            raise DatabaseError("canceling statement due to statement timeout, as a test says")
        return whole(among, **how)

    monkeypatch.setattr(verify, "compare", compare)
    assert [audit.step() for _ in range(3)] == [1, 0, 1]
    (failure,) = installation().audit_findings[1:-1]
    assert slow in failure
    assert "statement timeout" in failure
    for _ in range(3 * audit.FINDINGS_KEPT):
        audit.step()
    assert len(installation().audit_findings) <= audit.FINDINGS_KEPT


def test_history_that_nobody_has_filled_is_no_alarm(lost: ThreeWorkspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where runs were there before capture, the audit repairs nothing until a backfill has the workspace in its plan.
    Without the app ``backfill`` it sees everything."""
    record.installation()
    Installation.objects.update(lacks_history=True)
    assert [audit.step() for _ in range(4)] == [0, 0, 0, 0]
    monkeypatch.setattr(comparing, "_unfilled", [])
    assert [audit.step() for _ in range(4)] == [1, 1, 1, 0]


def test_a_part_whose_step_is_killed_is_noted_and_passed_over(
    lost: ThreeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's time limit would else kill every step at the same part, and the round never go on."""
    killed = history.workspace_text(lost.workspace)
    whole = comparing.compare

    def compare(among: Range, **how: Any) -> Any:
        if among.last == killed:
            raise SystemExit  # as a killed process, it stores nothing more
        return whole(among, **how)

    monkeypatch.setattr(verify, "compare", compare)
    assert audit.step() == 1
    with pytest.raises(SystemExit):
        audit.step()
    assert audit.step() == 1, "the workspace after it"
    (_, failure, _) = installation().audit_findings
    assert failure.endswith(f"..{killed}: its step did not end")
