"""Whether there were runs before capture, which only a backfill fills: the first installation notes it, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.adapter import Host
from tests.oracle import flush_all
from tests.sessions import locked
from workflows_tasks.capture import installation, record
from workflows_tasks.models import Installation, WorkspaceRecentWorkflow

pytestmark = pytest.mark.host_independent


@pytest.fixture
def new(live: Host) -> Iterator[Host]:
    """A host where nothing was ever installed."""
    assert not installation.remove()
    Installation.objects.all().delete()
    yield live
    assert not installation.install()


def noted() -> bool | None:
    """What is noted. Comparisons take what nobody knows for no."""
    answer: bool | None = Installation.objects.get().lacks_history
    assert record.lacks_history() == bool(answer)
    return answer


def make_run(host: Host) -> None:
    host.make_run(workspace=host.make_workspace(), workflow=host.make_workflow(), user=host.make_user())


def test_a_host_with_runs_lacks_them_until_a_backfill_says_otherwise(new: Host) -> None:
    make_run(new)
    assert not installation.install()
    assert noted() is True
    assert not installation.install()
    assert noted() is True
    record.note_filled()
    assert noted() is False
    assert not installation.remove()
    assert not installation.install()
    assert noted() is False, "what was missed meanwhile is a rescan's work"


def test_a_host_without_runs_lacks_nothing_later_either(new: Host) -> None:
    assert not installation.install()
    assert noted() is False
    make_run(new)
    assert not installation.install()
    assert noted() is False


def test_runs_that_are_flushed_during_the_installation_hide_no_earlier_ones(new: Host) -> None:
    """The workers may be there before ``migrate`` ends."""
    make_run(new)

    def write(step: str) -> None:
        if step == "bots_savedrun: done":
            make_run(new)
            flush_all()
            assert WorkspaceRecentWorkflow.objects.exists()

    assert not installation.install(write)
    assert noted() is True


def test_an_installation_that_failed_was_not_the_first(new: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the runs may be locked against reading, too."""
    monkeypatch.setattr(installation, "NOWAIT_S", 0.05)
    monkeypatch.setattr(installation, "WAITS_MS", (10,))
    make_run(new)
    with locked("LOCK TABLE bots_savedrun IN ACCESS EXCLUSIVE MODE"):
        assert installation.install()
    assert noted() is None
    assert not installation.install()
    assert noted() is True


def test_if_our_row_is_lost_nobody_knows_and_every_difference_is_drift(new: Host) -> None:
    make_run(new)
    assert not installation.install()
    make_run(new)
    flush_all()
    Installation.objects.all().delete()
    assert not installation.install()
    assert noted() is None
