"""``GRAINS``: what is not a grain is not stored, not compared, and refused on a page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Configure
from tests.hosts.adapter import Host, moment
from tests.oracle import expected, flush_all, stored
from workflows_tasks import conf, recent_workflows
from workflows_tasks.capture import installation, record
from workflows_tasks.comparison.compare import compare
from workflows_tasks.errors import GrainNotStored
from workflows_tasks.projection import searches
from workflows_tasks.projection.ranges import EVERYWHERE
from workflows_tasks.tick import tick


def of_grain(live: Host, grain: str) -> set[Any]:
    return {row for row in expected(live) if bool(row.uid) == (grain == conf.USER)}


@pytest.fixture
def made(live: Host) -> tuple[Any, Any]:
    workspace, user = live.make_workspace(), live.make_user()
    for minute in range(3):
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user, used_at=moment(minute))
    return workspace, user


@pytest.mark.parametrize("grain", conf.GRAINS)
def test_one_grain_alone(live: Host, made: tuple[Any, Any], configure: Configure, grain: str) -> None:
    workspace, user = made
    configure(GRAINS=(grain,))
    flush_all()
    assert set(stored()) == of_grain(live, grain)
    assert compare(EVERYWHERE) == []
    kept, other = (user, None) if grain == conf.USER else (None, user)
    for fresh in (False, True):
        assert len(list(recent_workflows(workspace, kept, fresh=fresh))) == 3
        with pytest.raises(
            GrainNotStored, match=r"are not stored: RECENT_WORKFLOWS\['GRAINS'\] is .*Add '(user|workspace)'"
        ):
            recent_workflows(workspace, other, fresh=fresh)
    live.run_model._base_manager.filter(pk=stored()[0].run).delete()
    flush_all()
    assert set(stored()) == of_grain(live, grain)


@pytest.mark.parametrize("pass_runs", [5_000, 0], ids=["a pass", "walks"])
@pytest.mark.parametrize("grain", conf.GRAINS)
def test_a_grain_is_taken_away_and_comes_back(
    live: Host,
    made: tuple[Any, Any],
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    grain: str,
    pass_runs: int,
) -> None:
    """``triggers --install`` asks for a look at everything; the tick begins it, and flushes do it. Rows of a grain that
    is gone go, however those of a large workspace would be searched."""
    monkeypatch.setattr(searches, "PASS_RUNS", pass_runs)
    monkeypatch.setattr(searches, "RUNS_A_KEY", 0)
    both = conf.settings().grains
    installation.install()
    flush_all()
    assert set(stored()) == set(expected(live))
    for grains in ((grain,), both):
        configure(GRAINS=grains)
        assert record.fingerprint_changed(record.installation())
        installation.install()
        assert not record.fingerprint_changed(record.installation())
        tick()
        flush_all()
        rows = set(stored())
        assert rows == (set(expected(live)) if grains == both else of_grain(live, grain))
        assert compare(EVERYWHERE) == []
