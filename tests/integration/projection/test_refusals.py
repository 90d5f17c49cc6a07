"""What the database refuses is put into quarantine alone; the rest of its shard goes on."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError

from tests.hosts.adapter import Host
from tests.integration.projection.neighbours import Neighbours, assert_exact_but_for
from tests.integration.projection.refusing import WAYS, Refuse, by_filter, by_trigger
from tests.oracle import assert_exact, flush_all
from tests.sessions import execute, query
from workflows_tasks import history
from workflows_tasks.models import CHANGES
from workflows_tasks.projection import backlog, changes
from workflows_tasks.projection import flush as flushing
from workflows_tasks.projection.flush import flush
from workflows_tasks.projection.transactions import is_refusal
from workflows_tasks.rechecks import recheck

pytestmark = pytest.mark.host_independent


@pytest.fixture
def near(live: Host) -> Neighbours:
    return Neighbours(live)


def quarantined() -> set[tuple[int, str | None, str | None]]:
    """Shard, run and scope of all that is in quarantine."""
    return {(each.shard, each.run, each.scope) for each in backlog.quarantined(1_000)}


def of_runs(near: Neighbours, *runs: Any) -> set[tuple[int, str | None, str | None]]:
    return {(near.shard, str(run.pk), None) for run in runs}


def empty_log() -> None:
    execute(f"DELETE FROM {CHANGES}")


def in_log() -> int:
    return int(query(f"SELECT count(*) FROM {CHANGES}")[0][0])


def busy_shard(near: Neighbours) -> Any:
    """Runs of several keys, in the log; returns one of them."""
    bad = near.run(1)
    near.run(2, workflow=near.another)
    for workspace in (1, 2):
        near.run(3, workspace)
    return bad


@pytest.mark.parametrize("refuse", WAYS)
def test_one_change_in_a_slice(live: Host, near: Neighbours, refuse: Refuse) -> None:
    bad = busy_shard(near)
    with refuse(bad):
        flush_all()
        assert_exact_but_for(live, bad)
        assert quarantined() == of_runs(near, bad)
        assert {"refused" in each.error or "index row" in each.error for each in backlog.quarantined(9)} == {True}
        assert near.counters()["quarantined"] >= 1
        assert not near.error()
    changes.retry_quarantined()
    flush_all()
    assert_exact(live)
    assert in_log() == 0


def test_a_filter_is_asked_about_no_other_run_whatever_the_plan(live: Host, near: Neighbours) -> None:
    """A hash join would read every run, and each would be refused for the one."""
    bad = busy_shard(near)
    flush_all()
    for workspace in (1, 2):
        near.run(5, workspace)
    try:
        execute("SET enable_nestloop = off")
        with by_filter(bad):
            flush_all()
    finally:
        execute("RESET enable_nestloop")
    assert quarantined() == set()
    assert_exact(live)
    assert in_log() == 0


@pytest.mark.parametrize("refuse", WAYS)
def test_one_run_of_a_scope(live: Host, near: Neighbours, refuse: Refuse) -> None:
    """A scope names many runs; a filter that raises for one of them must not keep it for ever."""
    bad = busy_shard(near)
    more = [near.run(4 + n, 1, workflow=live.make_workflow()) for n in range(12)]
    assert more
    empty_log()
    changes.log_everything()
    with refuse(bad):
        flush_all()
        assert_exact_but_for(live, bad)
        assert quarantined() == of_runs(near, bad)
    changes.retry_quarantined()
    flush_all()
    assert_exact(live)


@pytest.mark.parametrize("refuse", WAYS)
def test_one_run_of_a_chunk(live: Host, near: Neighbours, refuse: Refuse) -> None:
    """A fill says that it is a refusal, so that a backfill can try smaller ranges; these go through."""
    bad = busy_shard(near)
    empty_log()
    ranges = [history.parse_range(f"{key}..{key}") for key in map(history.workspace_text, near.workspaces)]
    with refuse(bad):
        for among in (history.EVERYWHERE, ranges[0]):
            with pytest.raises(DatabaseError) as raised:
                history.fill(among)
            assert is_refusal(raised.value)
        assert [history.fill(among) for among in ranges[1:]] == [2, 2]
    history.fill(ranges[0])
    assert_exact(live)


def test_it_is_tried_again_slowly(live: Host, near: Neighbours) -> None:
    """Also where nothing else goes through: it is known already that it is not its shard's fault."""
    bad = busy_shard(near)
    empty_log()
    recheck(live.run_model._base_manager.all())
    with by_trigger(bad):
        flush_all()
        waits = []
        for _ in range(3):
            left = "extract(epoch FROM retry_at - clock_timestamp())::float8"
            ((wait_s,),) = query(f"SELECT {left} FROM {CHANGES} WHERE error IS NOT NULL")
            waits.append(round(wait_s / 60, 1))
            assert changes.retry_quarantined() == 1
            flush_all()
            assert not near.error()
    assert waits == [1.0, 2.0, 4.0]
    assert [each.tries for each in backlog.quarantined(9)] == [4]


def test_until_its_time_has_come_it_is_not_taken(live: Host, near: Neighbours) -> None:
    bad = busy_shard(near)
    with by_trigger(bad):
        flush_all()
    flush_all()
    assert quarantined() == of_runs(near, bad)
    assert not any(shard.pending for shard in backlog.status())


def test_a_later_change_of_the_run_takes_it_along(live: Host, near: Neighbours) -> None:
    bad = busy_shard(near)
    with by_trigger(bad):
        flush_all()
    live.save_again(bad)
    flush_all()
    assert_exact(live)
    assert in_log() == 0


def test_alone_in_its_shard_it_waits_for_company(live: Host, near: Neighbours) -> None:
    """Nobody can know then whether it meets everything. The next change that goes through tells."""
    bad = near.run(1)
    with by_trigger(bad):
        with pytest.raises(DatabaseError):
            flush(near.shard)
        assert quarantined() == set()
        assert "refused" in near.error()
        near.run(2, 1)
        flush_all()
        assert quarantined() == of_runs(near, bad)
        assert not near.error()
    changes.retry_quarantined()
    flush_all()
    assert_exact(live)


@pytest.mark.parametrize("place", [0, 2])
def test_many_of_one_workspace(live: Host, near: Neighbours, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a workspace has, wherever they are in the order: those of another go through."""
    monkeypatch.setattr(flushing, "HOPELESS", 1)
    bad = [near.run(n, place, workflow=live.make_workflow()) for n in range(8)]
    near.run(30, 1)
    with by_trigger(*bad):
        flush_all()
        assert_exact_but_for(live, *bad)
        assert quarantined() == of_runs(near, *bad)
    changes.retry_quarantined()
    flush_all()
    assert_exact(live)


def test_a_run_that_is_refused_for_its_row_lets_its_workspace_be_recomputed(live: Host, near: Neighbours) -> None:
    bad = busy_shard(near)
    newest = near.run(20, workflow=near.another)
    with by_trigger(bad):
        flush_all()
        newest.delete()
        flush_all()
        assert_exact_but_for(live, bad)
        assert quarantined() == of_runs(near, bad)


def test_where_everything_is_refused_nothing_is_quarantined(live: Host, near: Neighbours) -> None:
    bad = [near.run(n, workflow=live.make_workflow()) for n in range(3)]
    with by_filter(*bad), pytest.raises(DatabaseError):
        flush(near.shard)
    assert quarantined() == set()
    flush_all()
    assert_exact(live)
