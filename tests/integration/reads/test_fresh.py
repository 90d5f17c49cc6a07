"""``fresh=True``: the page as it is now, in one statement, whatever waits for a flush."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.oracle import Row, expected, flush_all
from tests.sessions import query, session
from tests.threads import beside
from tests.waiting import until
from workflows_tasks import recent_workflows
from workflows_tasks.models import CHANGES
from workflows_tasks.projection import changes


def page(workspace: Any, user: Any = None, limit: int = 4) -> list[tuple[Any, Any, Any]]:
    """A fresh page's workflows, moments and runs; it is one statement."""
    with CaptureQueriesContext(connection) as captured:
        rows = list(recent_workflows(workspace, user, limit, fresh=True))
    assert len(captured) == 1
    return [(row.published_run_id, row.last_used_at, row.last_run_id) for row in rows]


def true_page(
    live: Host, workspace: Any, user: Any = None, limit: int = 4, among: Sequence[Row] | None = None
) -> list[tuple[Any, Any, Any]]:
    """What it must be."""
    key, uid = live.workspace_key(workspace), "" if user is None else live.user_text(user)
    rows = [row for row in (expected(live) if among is None else among) if (row.workspace, row.uid) == (key, uid)]
    rows.sort(key=lambda row: (row.used_at, row.run), reverse=True)
    return [(row.workflow, row.used_at, row.run) for row in rows[:limit]]


class ThreeWorkspaces:
    """A workspace and a user with six workflows, flushed; and another of each."""

    def __init__(self, live: Host) -> None:
        self.live = live
        self.workspace, self.other_workspace = live.make_workspace(), live.make_workspace()
        self.user, self.other_user = live.make_user(), live.make_user()
        self.workflows = [live.make_workflow() for _ in range(6)]
        self.runs = [self.run(minute, workflow) for minute, workflow in enumerate(self.workflows)]
        self.older = [self.run(-1 - minute, workflow) for minute, workflow in enumerate(self.workflows)]
        flush_all()

    def run(self, minute: float, workflow: Any, **fields: Any) -> Any:
        given = {"workspace": self.workspace, "user": self.user, "workflow": workflow, **fields}
        return self.live.make_run(**given, used_at=moment(minute))

    def assert_fresh(self) -> None:
        rows = expected(self.live)
        pages = itertools.product((self.workspace, self.other_workspace), (None, self.user, self.other_user))
        for (workspace, user), limit in zip(pages, (2, 20, 1, 4, 20, 4), strict=True):
            assert page(workspace, user, limit) == true_page(self.live, workspace, user, limit, rows)


@pytest.fixture
def three(live: Host) -> ThreeWorkspaces:
    return ThreeWorkspaces(live)


def hide_and_show(live: Host, run: Any) -> None:
    live.hide(run)
    live.unhide(run)


def date_back_and_save(live: Host, run: Any) -> None:
    live.set_used_at(run, moment(-50))
    live.save_again(run)


def use_at_once(live: Host, runs: Sequence[Any]) -> None:
    for run in runs:
        live.set_used_at(run, moment(7))


def write_at_random(three: ThreeWorkspaces, chance: random.Random, runs: list[Any]) -> None:
    run, kind = chance.choice(runs), chance.randrange(6)
    if kind == 0:
        three.live.set_used_at(run, moment(chance.uniform(-9, 9)))
    elif kind == 1:
        three.live.hide(run)
    elif kind == 2:
        three.live.unhide(run)
    elif kind == 3:
        three.live.move_to_user(run, chance.choice([three.user, three.other_user]))
    elif kind == 4:
        three.live.move_to_workspace(run, three.other_workspace)
    else:
        runs.append(three.run(chance.uniform(-9, 9), chance.choice(three.workflows)))


WRITES: dict[str, Callable[[ThreeWorkspaces], Any]] = {
    "nothing": lambda three: None,
    "a save": lambda three: three.live.save_again(three.runs[1]),
    "a run of a workflow that has no row": lambda three: three.run(99, three.live.make_workflow()),
    "a run older than the page": lambda three: three.run(-99, three.live.make_workflow()),
    "a run of somebody else": lambda three: three.run(99, three.workflows[2], user=three.other_user),
    "the newest is deleted": lambda three: three.runs[-1].delete(),
    "the newest of each is deleted": lambda three: [run.delete() for run in three.runs],
    "all are deleted": lambda three: [run.delete() for run in three.runs + three.older],
    "the newest is hidden": lambda three: three.live.hide(three.runs[-1]),
    "one is hidden and shown": lambda three: hide_and_show(three.live, three.runs[3]),
    "one is moved to another workspace": lambda three: three.live.move_to_workspace(
        three.runs[-1], three.other_workspace
    ),
    "one is moved to another user": lambda three: three.live.move_to_user(three.runs[-1], three.other_user),
    "one is moved to another workflow": lambda three: three.live.move_to_workflow(three.runs[-1], three.workflows[0]),
    "one is dated back": lambda three: three.live.set_used_at(three.runs[-1], moment(-50)),
    "one is dated back and saved": lambda three: date_back_and_save(three.live, three.runs[-1]),
    "one moment for all": lambda three: use_at_once(three.live, three.runs),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_on_the_page_at_once(three: ThreeWorkspaces, name: str) -> None:
    WRITES[name](three)
    three.assert_fresh()


@pytest.mark.parametrize("pending", [0, 10, 100])
def test_exact_with_any_number_of_changes_that_wait(three: ThreeWorkspaces, pending: int) -> None:
    """A random mixture of them."""
    chance = random.Random(pending)
    runs = [*three.runs, *three.older]
    for _ in range(pending):
        write_at_random(three, chance, runs)
    three.assert_fresh()
    flush_all()
    three.assert_fresh()


def test_nothing_of_another_workspace_is_shown(three: ThreeWorkspaces) -> None:
    three.run(99, three.live.make_workflow(), workspace=three.other_workspace)
    before = page(three.workspace)
    assert before == true_page(three.live, three.workspace)


def forget_the_runs_changes() -> None:
    """As a scope leaves it: nobody has logged the runs themselves."""
    with connection.cursor() as cursor:
        cursor.execute(f'DELETE FROM "{CHANGES}" WHERE run IS NOT NULL')


def test_while_a_scope_waits_no_run_is_shown_that_is_gone_hidden_or_moved(three: ThreeWorkspaces) -> None:
    """Its own rows are right; a workflow that the scope brings may be missing until then."""
    three.runs[5].delete()
    three.live.hide(three.runs[4])
    three.live.move_to_workspace(three.runs[3], three.other_workspace)
    three.live.move_to_workflow(three.runs[2], three.live.make_workflow())
    forget_the_runs_changes()
    changes.log_everything()
    shown = page(three.workspace, limit=20)
    truths = {(row.workflow, row.used_at, row.run) for row in expected(three.live) if not row.uid}
    assert set(shown) <= truths
    assert [row for row in true_page(three.live, three.workspace, limit=20) if row in shown] == shown
    flush_all()
    three.assert_fresh()


def test_changes_in_quarantine_count_as_pending(three: ThreeWorkspaces) -> None:
    three.live.save_again(three.runs[1])
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = 'refused', retry_at = clock_timestamp() + interval '1 h'")
    three.assert_fresh()


def test_a_page_on_an_empty_table_is_what_waits(live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    assert page(workspace) == page(workspace, user) == []
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user)
    assert len(page(workspace)) == len(page(workspace, user)) == 1
    assert page(workspace) == true_page(live, workspace)


@pytest.mark.host_independent
@pytest.mark.django_db(transaction=True)
def test_no_truncate_comes_between_the_snapshot_and_the_tables(three: ThreeWorkspaces) -> None:
    """All runs are replaced by the same runs. A snapshot from before would show neither the old ones nor the new."""
    runs = three.live.run_model._meta.db_table
    before = page(three.workspace)
    with session() as other, beside() as start:
        other.execute(f"BEGIN; CREATE TEMP TABLE kept AS TABLE {runs}; TRUNCATE {runs}")
        reading = start(lambda: page(three.workspace))
        until(lambda: query("SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted", [runs]))
        other.execute(f"INSERT INTO {runs} TABLE kept; COMMIT")
        assert reading.result() == before == page(three.workspace)


def test_it_is_read_where_runs_are_written(live: Host, settings: Any) -> None:
    """A replica's log may be behind its table, or its table behind the log."""

    class FromReplica:
        def db_for_read(self, model: Any, **_: Any) -> str:
            return "a replica"

        def db_for_write(self, model: Any, **_: Any) -> str:
            return "default"

    workspace = live.make_workspace()
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user=live.make_user())
    settings.DATABASE_ROUTERS = [FromReplica()]
    rows = recent_workflows(workspace, fresh=True)
    assert rows.db == "default"
    assert len(list(rows)) == 1
    assert recent_workflows(workspace).db == "a replica"
