"""What is drift, what waits, what was refused, by the change log of the same snapshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from tests.conftest import Configure
from tests.hosts.adapter import moment
from tests.integration.comparison.corruptions import CORRUPTIONS, ThreeWorkspaces, lose_changes
from tests.oracle import assert_exact, flush_all
from tests.sessions import counted, execute
from tests.threads import beside, until_waiting
from workflows_tasks import conf, history
from workflows_tasks.comparison import compare as comparing
from workflows_tasks.comparison.compare import DRIFT, REFUSED, UNFILLED, WAITING, compare, snapshot
from workflows_tasks.models import CHANGES
from workflows_tasks.projection import changes, flush
from workflows_tasks.projection.ranges import EVERYWHERE, Range
from workflows_tasks.sql import Sql


def states(**where: Any) -> list[str]:
    return sorted({each.state for each in compare(EVERYWHERE, **where)})


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_way_of_being_wrong_is_drift_and_named(three: ThreeWorkspaces, name: str) -> None:
    kind, plant = CORRUPTIONS[name]
    workflow = three.host.make_workflow()
    plant(three, workflow)
    lose_changes()
    wrong = [each for each in compare(EVERYWHERE) if each.uid == ""]
    assert [(each.state, each.kind) for each in wrong] == [(DRIFT, kind)]
    assert wrong[0].workflow == str(workflow.pk)
    assert wrong[0].workspace == history.workspace_text(three.workspace)


def lose_a_row_and_log_everything(three: ThreeWorkspaces) -> None:
    three.row(three.workflow).delete()
    lose_changes()
    changes.log_everything()


WAITS: dict[str, Callable[[ThreeWorkspaces, Any], Any]] = {
    "a save": lambda three, run: three.host.save_again(run),
    "a new run": lambda three, run: three.run(9),
    "a deletion": lambda three, run: run.delete(),
    "a move": lambda three, run: three.host.move_to_workspace(run, three.beyond),
    "hidden": lambda three, run: three.host.hide(run),
    "a scope of every run": lambda three, run: lose_a_row_and_log_everything(three),
}  # fmt: skip


@pytest.mark.parametrize("name", WAITS)
def test_what_a_change_explains_waits(three: ThreeWorkspaces, name: str) -> None:
    run = three.settle(5)
    WAITS[name](three, run)
    assert states() == [WAITING]
    lose_changes()
    assert states() == [DRIFT], "without the change nothing explains it"


def test_a_change_of_another_run_or_workspace_explains_nothing(three: ThreeWorkspaces) -> None:
    three.settle(5)
    other = three.settle(4, workspace=three.beyond, workflow=three.host.make_workflow())
    three.row(three.workflow).delete()
    three.host.save_again(other)
    assert states() == [DRIFT, WAITING]
    assert {each.workspace for each in compare(EVERYWHERE) if each.state == DRIFT} == {
        history.workspace_text(three.workspace)
    }


def test_a_flood_is_not_read_for_each_difference(three: ThreeWorkspaces) -> None:
    host = three.host
    host.make_runs(
        200, workspaces=[three.workspace], workflows=[host.make_workflow() for _ in range(100)], users=[three.user]
    )
    execute(f"ANALYZE {CHANGES}")
    read = "seq_tup_read + idx_tup_fetch"
    (before,) = counted(read, CHANGES)
    differences = compare(EVERYWHERE)
    (after,) = counted(read, CHANGES)
    assert [each.state for each in differences] == [WAITING] * 200
    assert after - before < 200 * 20


def test_what_only_a_quarantined_change_explains_is_refused(three: ThreeWorkspaces) -> None:
    run = three.settle(5)
    run.delete()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = 'as a test says'")
    assert states() == [REFUSED]
    three.run(9)
    assert states() == [WAITING]


def test_what_an_open_chunk_explains_is_unfilled(three: ThreeWorkspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    three.run(5)
    three.run(5, workspace=three.beyond)
    lose_changes()
    text = history.workspace_text(three.workspace)
    monkeypatch.setattr(
        comparing, "_unfilled", [(lambda workspace: Sql(f"({workspace})::text = %s", (text,)), str, str)]
    )
    found = {each.workspace: each.state for each in compare(EVERYWHERE)}
    assert found == {text: UNFILLED, history.workspace_text(three.beyond): DRIFT}


def test_grain_range_all_rows_and_parts(three: ThreeWorkspaces) -> None:
    for workspace in (three.earlier, three.workspace, three.beyond):
        three.run(5, workspace=workspace)
    flush_all()
    first, middle = (history.workspace_text(each) for each in (three.earlier, three.workspace))
    assert compare(EVERYWHERE) == []
    assert len(compare(EVERYWHERE, all_rows=True)) == 6
    assert {each.workspace for each in compare(Range(after=first, last=middle), all_rows=True)} == {middle}
    assert {each.uid for each in compare(EVERYWHERE, uid="", all_rows=True)} == {""}
    pieces = [compare(EVERYWHERE, all_rows=True, part=(n, 3)) for n in range(3)]
    assert sorted(map(len, pieces)) == [0, 0, 6], "a workflow is in one part, whole"


def test_each_part_of_a_scope_explains_a_row_whose_run_is_gone(three: ThreeWorkspaces) -> None:
    """A scope of every run is split by workspace first, and nobody finds the run any more."""
    three.settle(5).delete()
    lose_changes()
    changes.log_everything()
    assert states() == [WAITING]
    for shard in range(conf.settings().shards):
        while flush._flush_scope(shard, flush.Flushed()):
            assert states() == [WAITING]
    flush_all()
    assert assert_exact(three.host) == []


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_truncate_meanwhile_makes_no_drift(three: ThreeWorkspaces, isolation: str) -> None:
    """TRUNCATE is not versioned: without the lock an older snapshot would see neither runs nor the change."""
    if three.host.name == "deep":
        pytest.skip("its parents' tables are more than one")
    three.settle(5)
    table = connection.ops.quote_name(three.host.run_model._meta.db_table)

    def truncate() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table} CASCADE")

    with beside(2) as start:
        with snapshot():
            truncating = start(truncate)
            start(lambda: until_waiting(1)).result()  # a transaction sees the sessions as they were at its first look
            assert states() in ([], [WAITING])
        truncating.result()
    assert states() == [WAITING]
    flush_all()
    assert assert_exact(three.host) == []


def test_its_limits_are_its_own_whatever_the_roles_are(three: ThreeWorkspaces) -> None:
    three.settle(5)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 1; SET lock_timeout = 1")
        try:
            with snapshot(), connection.cursor() as inside:
                inside.execute("SELECT pg_sleep(0.05), current_setting('statement_timeout')")
                assert inside.fetchone()[1] == "1min"
        finally:
            cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
    with pytest.raises(DatabaseError, match="statement timeout"), snapshot(statement_s=0.05):
        connection.cursor().execute("SELECT pg_sleep(5)")


def test_row_level_security_is_an_error_not_a_smaller_truth(three: ThreeWorkspaces) -> None:
    three.settle(5)
    table = connection.ops.quote_name(three.host.run_model._meta.db_table)
    name = f"limited_{connection.settings_dict['NAME']}"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE ROLE "{name}"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"')
        cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        try:
            cursor.execute(f'SET ROLE "{name}"')
            with pytest.raises(DatabaseError, match="row-level security"):
                compare(EVERYWHERE)
        finally:
            cursor.execute(f"RESET ROLE; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            cursor.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.mark.host_independent
def test_what_a_backfill_filter_leaves_out_is_no_drift(three: ThreeWorkspaces, configure: Configure) -> None:
    """A row may be anywhere from the newest run that history counts to the newest that there is."""
    from django.db.models import Q

    configure(BACKFILL_FILTER=Q(uid=three.user))
    three.run(3)
    newer = three.host.make_run(
        workspace=three.workspace, workflow=three.workflow, user=three.host.make_user(), used_at=moment(5)
    )
    lose_changes()
    assert [each.kind for each in compare(EVERYWHERE, uid="")] == ["missing"], "history counts the older"
    history.fill(EVERYWHERE)
    assert compare(EVERYWHERE) == []
    three.host.save_again(newer)
    flush_all()
    assert compare(EVERYWHERE) == []
    three.row(three.workflow).update(last_used_at=moment(10**7))
    assert [each.state for each in compare(EVERYWHERE)] == [DRIFT]
