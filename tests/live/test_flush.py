"""A flush writes what is true, once, whatever it is told and in whatever order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.conftest import Configure
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact, flush_all, stored
from workflows_tasks import announce, inbox


def versions() -> list[tuple[Any, ...]]:
    """Which version of each row PostgreSQL holds: any write, even of the same values, makes another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, ctid::text, xmin::text FROM workflows_tasks_workspacerecentworkflow ORDER BY id")
        return list(cursor.fetchall())


class Stage:
    """One workspace, user and workflow with three runs, a minute apart."""

    def __init__(self, live: Host) -> None:
        self.workspace, self.workflow, self.user = live.make_workspace(), live.make_workflow(), live.make_user()
        self.runs = [
            live.make_run(workspace=self.workspace, workflow=self.workflow, user=self.user, used_at=moment(minute))
            for minute in range(3)
        ]
        flush_all()
        assert {row.run for row in stored()} == {self.runs[2].pk}


@pytest.fixture
def stage(live: Host) -> Stage:
    return Stage(live)


def test_replays_and_duplicates_write_nothing(live: Host, stage: Stage) -> None:
    before = versions()
    for _ in range(2):
        announce(stage.runs)
        flush_all()
    assert versions() == before


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_gives_the_same_rows(live: Host, order: tuple[int, ...]) -> None:
    runs = live.make_runs(
        3, workspaces=[live.make_workspace()], workflows=[live.make_workflow()], users=[live.make_user()]
    )
    for position in order:
        announce([runs[position]])
        flush_all()
    assert {row.run for row in assert_exact(live)} == {runs[2]}


def test_older_runs_flushed_later_change_nothing(live: Host, stage: Stage) -> None:
    before = versions()
    live.make_run(workspace=stage.workspace, workflow=stage.workflow, user=stage.user, used_at=moment(-1))
    flush_all()
    assert versions() == before
    assert_exact(live)


@pytest.mark.parametrize("tied", [2, 5])
def test_ties_go_to_the_higher_key(live: Host, stage: Stage, tied: int) -> None:
    for _ in range(tied):
        live.make_run(workspace=stage.workspace, workflow=stage.workflow, user=stage.user, used_at=moment(2))
        flush_all()
        assert_exact(live)
    for _ in range(tied):
        live.run_model._base_manager.get(pk=stored()[0].run).delete()
        flush_all()
        assert_exact(live)


def test_a_deleted_run_gives_way_to_the_next(live: Host, stage: Stage) -> None:
    for left in (2, 1):
        stage.runs[left].delete()
        flush_all()
        assert {row.run for row in assert_exact(live)} == {stage.runs[left - 1].pk}
    stage.runs[0].delete()
    flush_all()
    assert assert_exact(live) == []


def test_a_hidden_run_gives_way_and_comes_back(live: Host, stage: Stage) -> None:
    live.hide(stage.runs[2])
    flush_all()
    assert {row.run for row in assert_exact(live)} == {stage.runs[1].pk}
    live.unhide(stage.runs[2])
    flush_all()
    assert {row.run for row in assert_exact(live)} == {stage.runs[2].pk}


def test_a_backdated_run_gives_way_or_stays_with_its_new_time(live: Host, stage: Stage) -> None:
    live.set_used_at(stage.runs[2], moment(1.5))
    announce([stage.runs[2]])
    flush_all()
    assert {(row.run, row.used_at) for row in assert_exact(live)} == {(stage.runs[2].pk, moment(1.5))}
    live.set_used_at(stage.runs[2], moment(0.5))
    announce([stage.runs[2]])
    flush_all()
    assert {row.run for row in assert_exact(live)} == {stage.runs[1].pk}


def test_a_run_moved_to_another_workspace_leaves_its_old_one(live: Host, stage: Stage) -> None:
    for _ in range(4):  # to other shards too
        live.move_to_workspace(stage.runs[2], live.make_workspace())
        flush_all()
        assert len(assert_exact(live)) == 4


def test_a_run_moved_to_another_workflow_leaves_its_old_one(live: Host, stage: Stage) -> None:
    live.move_to_workflow(stage.runs[2], live.make_workflow())
    flush_all()
    assert len(assert_exact(live)) == 4


def test_a_run_moved_to_another_user_leaves_its_old_one(live: Host, stage: Stage) -> None:
    live.move_to_user(stage.runs[2], live.make_user())
    flush_all()
    assert len(assert_exact(live)) == 3


@pytest.mark.where_allowed("workspace")
def test_a_run_that_loses_its_workspace_leaves_it(live: Host, stage: Stage) -> None:
    live.move_to_workspace(stage.runs[2], None)
    flush_all()
    assert {row.run for row in assert_exact(live)} == {stage.runs[1].pk}


@pytest.mark.where_allowed("user")
def test_a_run_that_loses_its_user_stays_its_workspaces(live: Host, stage: Stage) -> None:
    live.move_to_user(stage.runs[2], None)
    flush_all()
    assert {(row.uid, row.run) for row in assert_exact(live)} == {
        ("", stage.runs[2].pk),
        (live.user_text(stage.user), stage.runs[1].pk),
    }


def test_a_run_deleted_before_its_flush(live: Host, stage: Stage) -> None:
    doomed = live.make_run(workspace=stage.workspace, workflow=live.make_workflow(), user=stage.user)
    doomed.delete()
    flush_all()
    assert {row.run for row in assert_exact(live)} == {stage.runs[2].pk}


def test_a_run_that_never_was(live: Host, stage: Stage) -> None:
    inbox.add({live.absent: 0})
    flush_all()
    assert sum(shard.aside for shard in inbox.status()) == 0
    assert_exact(live)


def test_an_id_announced_to_the_wrong_shard_is_handed_on(live: Host, configure: Configure) -> None:
    configure(SHARDS=4)
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    flush_all()
    live.hide(run)
    flush_all()
    assert stored() == []
    live.run_model._base_manager.filter(pk=run.pk).update(**live.shown)
    right = inbox.shard_of(live.workspace_key(getattr(run, live.workspace_field)))
    inbox.add({str(run.pk): (right + 1) % 4})
    flush_all()
    assert len(assert_exact(live)) == 2
    assert sum(shard.stats.get("handed_on", 0) for shard in inbox.status()) == 1


class Chance:
    """Changes runs at random; the seed is pytest's, so a failure can be repeated."""

    def __init__(self, live: Host) -> None:
        self.live = live
        self.workspaces = [live.make_workspace() for _ in range(3)]
        self.workflows = [live.make_workflow() for _ in range(3)]
        self.users = [live.make_user() for _ in range(2)]
        self.runs: list[Any] = []

    def new(self) -> None:
        self.runs.append(
            self.live.make_run(
                workspace=random.choice(self.workspaces),
                workflow=random.choice(self.workflows),
                user=random.choice(self.users),
                used_at=moment(random.randrange(20)),
                hidden=random.random() < 0.2,
            )
        )

    def delete(self) -> None:
        self.runs.pop(random.randrange(len(self.runs))).delete()

    def change(self) -> None:
        run, live = random.choice(self.runs), self.live
        changes: list[Callable[[], None]] = [
            lambda: live.hide(run),
            lambda: live.unhide(run),
            lambda: live.move_to_workspace(run, random.choice(self.workspaces)),
            lambda: live.move_to_workflow(run, random.choice(self.workflows)),
            lambda: live.move_to_user(run, random.choice(self.users)),
            lambda: self._backdate(run),
        ]
        random.choice(changes)()

    def _backdate(self, run: Any) -> None:
        self.live.set_used_at(run, moment(random.randrange(20)))
        announce([run])


def test_many_random_changes_end_exact(live: Host) -> None:
    chance = Chance(live)
    for step in range(120):
        steps: list[Callable[[], None]] = [chance.new]
        if chance.runs:
            steps += [chance.delete, chance.change, chance.change]
        random.choice(steps)()
        if step % 10 == 9:
            flush_all()
            assert_exact(live)
