"""A flush is a series of slices, bounded in keys and in time, each one progress; nobody waits behind a flood."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.integration.projection.neighbours import Neighbours
from tests.oracle import assert_exact, flush_all, stored
from tests.sessions import counted, execute, query
from workflows_tasks import history
from workflows_tasks.models import CHANGES, Shard, WorkspaceRecentWorkflow
from workflows_tasks.projection import backlog, changes, decisions, searches
from workflows_tasks.projection import flush as flushing
from workflows_tasks.projection.changes import Scope
from workflows_tasks.projection.flush import Flushed, flush

pytestmark = pytest.mark.host_independent

NEVER_OVER_S = 1e9
TABLE = WorkspaceRecentWorkflow._meta.db_table


@pytest.fixture
def near(live: Host) -> Neighbours:
    return Neighbours(live)


def fill(near: Neighbours, runs: int, *, users: int = 1, workflows: int = 1) -> list[Any]:
    """Runs in the first workspace, in the table, with nothing in the log; returns the workflows."""
    host = near.host
    made = [host.make_workflow() for _ in range(workflows)]
    host.make_runs(runs, workspaces=near.workspaces[:1], workflows=made, users=[host.make_user() for _ in range(users)])
    history.fill(history.EVERYWHERE)
    execute(f"DELETE FROM {CHANGES}")
    return made


def hide_all(near: Neighbours, **of: Any) -> int:
    """One statement takes all of these runs out."""
    host = near.host
    model = host.run_model
    return int(model._base_manager.filter(**{host.workspace_field: near.workspaces[0]}, **of).update(**host.hidden))


def one_slice(near: Neighbours) -> Flushed:
    total = Flushed()
    flushing._flush_runs(near.shard, total, NEVER_OVER_S)
    return total


def test_mass_deletion_is_done_by_bounded_slices(live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tests/chaos/test_mass_deletion.py`` is the same at full size. Every slice is progress of its own."""
    monkeypatch.setattr(decisions, "MOST_RECOMPUTED", 7)
    fill(near, 60, users=5, workflows=6)
    before = len(stored())
    hide_all(near)
    rows: list[int] = []
    while not rows or len(stored()):
        assert len(rows) < 10
        one_slice(near)
        rows.append(before - len(stored()))
        before = len(stored())
    assert rows == [7, 7, 7, 7, 7, 1]
    flush_all()
    assert assert_exact(live) == []
    assert near.counters()["rows_removed"] == 36


def test_a_slice_whose_time_is_over_searches_once_and_no_more(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never before one key, or a shard would stand still."""
    monkeypatch.setattr(decisions, "SEARCH_S", -1.0)
    monkeypatch.setattr(searches, "PASS_RUNS", 0)
    monkeypatch.setattr(searches, "RUNS_A_KEY", 0)
    monkeypatch.setattr(searches, "WALKS", 4)
    fill(near, 30, users=2, workflows=5)
    hide_all(near)
    left = []
    for _ in range(4):
        one_slice(near)
        left.append(len(stored()))
    assert left == [11, 7, 3, 0]


def test_a_flood_in_one_workspace_holds_up_no_other(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement over many runs, and then one save in another workspace of the shard: the first slice has it."""
    monkeypatch.setattr(changes, "MOST_OF_WORKSPACE", 10)
    monkeypatch.setattr(changes, "MOST_TAKEN", 20)
    fill(near, 200, users=3)
    hide_all(near)
    run = near.run(9, 1)
    done = one_slice(near)
    assert 10 < done.changes <= 20
    assert {row.run for row in stored() if row.workspace == live.workspace_key(near.workspaces[1])} == {run.pk}
    flush_all()
    assert_exact(live)


@pytest.mark.parametrize("take", [changes.take_runs, decisions.advance])
def test_a_flood_is_not_read_to_take_its_oldest(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch, take: Callable[[int], Any]
) -> None:
    """Also while the planner's statistics are from before it."""
    monkeypatch.setattr(changes, "MOST_OF_WORKSPACE", 10)
    execute(f"ANALYZE {CHANGES}")
    workspace = history.workspace_text(near.workspaces[0])
    changes.log_runs((workspace, str(number)) for number in range(5_000))
    with transaction.atomic():
        before = rows_read()
        taken = take(near.shard)
        assert len(taken.ages_s if isinstance(taken, decisions.Advanced) else taken) == 10
        assert rows_read() - before < 100


def test_a_flood_is_not_read_to_see_where_changes_wait(live: Host, near: Neighbours) -> None:
    """Or a limit that a role has for its statements would stop every look of beat, just when it is needed."""
    workspace = history.workspace_text(near.workspaces[0])
    changes.log_runs((workspace, str(number)) for number in range(5_000))
    execute(f"DELETE FROM {CHANGES} WHERE shard <> {near.shard}")  # what making the workspaces left
    execute(f"ANALYZE {CHANGES}")
    with transaction.atomic():
        before = rows_read()
        assert backlog.shards_pending() == [near.shard]
        assert rows_read() - before < 100


def test_a_search_for_a_row_does_not_read_all_rows_of_its_user(live: Host, near: Neighbours) -> None:
    """In a workspace with many workflows, on a host with many workspaces."""
    fill(near, 400, workflows=400)
    execute(
        f"INSERT INTO {TABLE} (workspace_id, uid, published_run_id, last_used_at, last_run_id)"
        " SELECT -n / 2, 'user ' || -n, -n, now(), -n FROM generate_series(1, 5000) AS n"
    )
    execute(f"ANALYZE {TABLE}")
    live.run_model._base_manager.update(**{live.used_at_field: moment(1_000)})
    (before,) = counted("idx_tup_fetch", TABLE)
    assert one_slice(near).changes == 400
    (after,) = counted("idx_tup_fetch", TABLE)
    assert 400 <= after - before < 400 * 10
    key = history.workspace_text(near.workspaces[0])
    changes.log_scopes(near.shard, [Scope((), None, live.workspace_field, (key,), None, None)])
    flush(near.shard)
    assert 400 <= counted("idx_tup_fetch", TABLE)[0] - after < 400 * 10
    execute(f"DELETE FROM {TABLE} WHERE last_run_id < 0")
    flush_all()
    assert_exact(live)


def rows_read() -> int:
    """Rows of the log that this transaction has read."""
    ((read,),) = query(
        "SELECT pg_stat_get_xact_tuples_returned(log) + pg_stat_get_xact_tuples_fetched(log) FROM (SELECT %s::regclass)"
        " AS named(log)",
        [CHANGES],
    )
    return int(read)


def test_past_a_quarter_of_its_time_it_begins_no_slice(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_OF_WORKSPACE", 5)
    fill(near, 30)
    hide_all(near)
    times = iter(range(0, 10_000, 3))
    monkeypatch.setattr(flushing.time, "monotonic", lambda: float(next(times)))  # type: ignore[attr-defined]
    done = flush(near.shard)
    monkeypatch.undo()
    assert done.more
    assert 0 < done.changes < 30
    flush_all()
    assert_exact(live)


def test_equal_changes_are_taken_together(live: Host, near: Neighbours) -> None:
    run = near.run(1)
    flush_all()
    for minute in range(2, 12):
        live.set_used_at(run, moment(minute))
    taken = changes.take_runs(near.shard)
    assert [(each.run, len(each.ids)) for each in taken] == [(str(run.pk), 10)]
    assert one_slice(near).changes == 10
    assert_exact(live)


def test_statements_of_a_slice_do_not_grow_with_its_changes(live: Host, near: Neighbours) -> None:
    near.run(-1)
    flush_all()
    counts = []
    for runs in (1, 40):
        live.make_runs(runs, workspaces=near.workspaces, workflows=[near.workflow], users=[near.user])
        with CaptureQueriesContext(connection) as captured:
            one_slice(near)
        counts.append(len(captured))
        flush_all()
    assert counts[0] == counts[1] <= 12
    assert_exact(live)


def test_saving_a_run_again_updates_its_rows_in_place(live: Host, near: Neighbours) -> None:
    """No index holds the moment, so the update is HOT."""
    runs = [near.run(n, workflow=live.make_workflow()) for n in range(5)]
    for run in runs:
        live.save_again(run)
    flush_all()
    before = updates()
    for _ in range(4):
        for run in runs:
            live.save_again(run)
        flush_all()
    updated, in_place = (after - was for after, was in zip(updates(), before, strict=True))
    assert updated == in_place == 4 * 5 * 2
    assert_exact(live)


def updates() -> tuple[int, ...]:
    """Updates of rows of the table, and how many of them were HOT."""
    return counted("n_tup_upd, n_tup_hot_upd", TABLE)


def test_counters_are_of_the_flushs_own_transaction(live: Host, near: Neighbours) -> None:
    near.run(1)
    flush_all()
    counters = near.counters()
    assert counters["rows_advanced"] == 2
    assert counters["slices"] >= 1
    assert Shard.objects.get(number=near.shard).flushed_at is not None


def test_a_flush_goes_on_after_a_slice_that_forgot_nothing(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full slice keeps all changes of a workspace until the last of its keys is done."""
    monkeypatch.setattr(decisions, "MOST_RECOMPUTED", 1)
    monkeypatch.setattr(searches, "PASS_RUNS", 1_000)
    fill(near, 6, workflows=3)
    hide_all(near)
    flush(near.shard)
    assert not backlog.shards_pending()
    assert_exact(live)


def test_flushing_all_waits_for_what_replaces_a_scope(
    live: Host, near: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is younger than the scope. Here the time of each flush is over after one round."""
    fill(near, 3)
    changes.log_everything()
    monkeypatch.setattr(flushing, "time", SimpleNamespace(monotonic=count(0, 100).__next__))
    flushing.flush_all()
    assert not backlog.shards_pending()


def test_flushing_all_ends_beside_writers(live: Host, near: Neighbours) -> None:
    """Somebody saves a run after each flush, so the log is never empty."""
    calls, user = 0, live.make_user()

    def save(_: int) -> None:
        nonlocal calls
        calls += 1
        assert calls < 100, "it goes on for ever"
        workspace, workflow = near.workspaces[0], live.make_workflow()
        live.make_run(workspace=workspace, workflow=workflow, user=user, used_at=moment(calls))

    save(0)
    assert flushing.flush_all(save).changes
    assert backlog.shards_pending()
