"""A saved run becomes a recent workflow, and what is no use of a workflow does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import transaction
from django.db.models import F, GeneratedField, IntegerField, Model, Q
from django.db.models.functions import Coalesce
from django.test.utils import isolate_apps

from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact, flush_all, stored
from workflows_tasks import inbox, recent_workflows
from workflows_tasks.host import host as resolved


def pending() -> int:
    return sum(shard.pending for shard in inbox.status())


def test_a_saved_run_is_a_recent_workflow_of_its_workspace_and_its_user(live: Host) -> None:
    workspace, workflow, user = live.make_workspace(), live.make_workflow(), live.make_user()
    run = live.make_run(workspace=workspace, workflow=workflow, user=user)
    flush_all()
    run.refresh_from_db()
    for row in (recent_workflows(workspace).get(), recent_workflows(workspace, user).get()):
        assert (row.published_run, row.last_run, row.workspace) == (workflow, run, workspace)
        assert row.last_used_at == getattr(run, live.used_at_field)
    assert {row.uid for row in assert_exact(live)} == {"", live.user_text(user)}


def test_grains_are_kept_apart(live: Host) -> None:
    here, there = live.make_workspace(), live.make_workspace()
    ann, bob = live.make_user(), live.make_user()
    one, two = live.make_workflow(), live.make_workflow()
    for minute, (workspace, user, workflow) in enumerate(
        [(here, ann, one), (here, bob, two), (there, ann, two), (here, ann, two), (here, bob, one)]
    ):
        live.make_run(workspace=workspace, workflow=workflow, user=user, used_at=moment(minute))
    flush_all()
    assert [row.published_run for row in recent_workflows(here)] == [one, two]
    assert [row.published_run for row in recent_workflows(here, ann)] == [two, one]
    assert [row.published_run for row in recent_workflows(here, bob)] == [one, two]
    assert [row.published_run for row in recent_workflows(there, bob)] == []
    assert len(assert_exact(live)) == 8


def test_saving_again_renews_the_row(live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    first, second = (
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user, used_at=moment(minute))
        for minute in (1, 2)
    )
    flush_all()
    assert [row.last_run for row in recent_workflows(workspace)] == [second, first]
    live.save_again(first)
    flush_all()
    assert [row.last_run for row in recent_workflows(workspace)] == [first, second]
    assert_exact(live)


def test_a_save_of_other_fields_is_not_announced(live: Host) -> None:
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    flush_all()
    live.save_irrelevant(run)
    assert pending() == 0
    live.hide(run)  # update_fields as well, but one that matters
    assert pending() == 1


@pytest.mark.parametrize("part", ["workspace", "workflow", "user", "used_at"])
def test_each_part_of_a_row_is_relevant(live: Host, part: str) -> None:
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    flush_all()
    names = {
        "workspace": live.workspace_field,
        "workflow": next(iter(live.leading_to(live.make_workflow()))),
        "user": live.user_field,
        "used_at": live.used_at_field,
    }
    run.save(update_fields=[run._meta.get_field(names[part]).attname])
    assert pending() == 1


def test_a_fixture_is_not_announced(live: Host, tmp_path: Path) -> None:
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    rows = [*(type(run)._meta.pk.related_model.objects.all() if type(run)._meta.parents else ()), run]
    fixture = tmp_path / "runs.json"
    fixture.write_text(serializers.serialize("json", rows))
    flush_all()
    call_command("loaddata", fixture, verbosity=0)
    assert pending() == 0
    run.save()
    assert pending() == 1


@pytest.mark.where_allowed("user")
def test_a_run_without_user_counts_for_the_workspace_only(live: Host) -> None:
    live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=None)
    flush_all()
    assert [row.uid for row in assert_exact(live)] == [""]


@pytest.mark.where_allowed("workspace")
def test_a_run_without_workspace_is_nobodys(live: Host) -> None:
    live.make_run(workspace=None, workflow=live.make_workflow(), user=live.make_user())
    assert pending() == 1
    flush_all()
    assert assert_exact(live) == []


@pytest.mark.where_allowed("workflow")
def test_a_run_without_workflow_is_no_use_of_one(live: Host) -> None:
    live.make_run(workspace=live.make_workspace(), workflow=None, user=live.make_user())
    flush_all()
    assert assert_exact(live) == []


@pytest.mark.where_allowed("last_hop")
def test_a_version_without_workflow_is_no_workflow(live: Host) -> None:
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    flush_all()
    assert len(stored()) == 2
    live.move(run, **live.without_last_hop())
    flush_all()
    assert assert_exact(live) == []


@pytest.mark.where_allowed("used_at")
def test_a_run_that_was_not_used_yet_does_not_count(live: Host) -> None:
    run = live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())
    setattr(run, live.used_at_field, None)
    run.save()
    flush_all()
    assert assert_exact(live) == []


def test_a_hidden_run_does_not_count_until_it_is_shown(live: Host) -> None:
    workspace, workflow, user = live.make_workspace(), live.make_workflow(), live.make_user()
    run = live.make_run(workspace=workspace, workflow=workflow, user=user, hidden=True)
    flush_all()
    assert assert_exact(live) == []
    live.unhide(run)
    flush_all()
    assert len(assert_exact(live)) == 2


def make(live: Host) -> Any:
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


def test_a_rolled_back_transaction_announces_nothing(live: Host) -> None:
    with transaction.atomic():
        make(live)
        transaction.set_rollback(True)
    make(live)  # the connection's next transaction must not bring it along either
    assert pending() == 1


def test_nothing_is_announced_before_the_commit(live: Host) -> None:
    with transaction.atomic():
        make(live)
        assert pending() == 0
    assert pending() == 1


def test_a_rolled_back_savepoint_is_harmless(live: Host) -> None:
    with transaction.atomic():
        before = make(live)
        with transaction.atomic():
            make(live)
            transaction.set_rollback(True)
        after = make(live)
    flush_all()
    assert {row.run for row in assert_exact(live)} == {before.pk, after.pk}


def test_sibling_savepoints_are_all_announced(live: Host) -> None:
    runs = []
    with transaction.atomic():
        for _ in range(3):
            with transaction.atomic():
                runs.append(make(live))
    flush_all()
    assert {row.run for row in assert_exact(live)} == {run.pk for run in runs}


def test_a_savepoint_that_rolls_back_around_others_takes_only_its_own(live: Host) -> None:
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                make(live)
            transaction.set_rollback(True)
        kept = make(live)
    flush_all()
    assert {row.run for row in assert_exact(live)} == {kept.pk}


@pytest.mark.where_allowed("alias")
def test_a_save_through_a_proxy_or_a_multi_table_parent_is_seen(live: Host) -> None:
    run = make(live)
    flush_all()
    live.alias_model._base_manager.get(pk=run.pk).save()
    assert pending() == 1
    flush_all()
    assert_exact(live)


def test_a_save_may_matter_to_what_a_range_of_the_filter_reads(live: Host) -> None:
    """The filter names one field, and its range others."""
    for value in (F("pk"), (F("pk"), F("pk")), [[1, F("pk")]]):
        assert dataclasses.replace(resolved(), run_filter=Q(pk__range=value)).relevant_fields is None
    assert dataclasses.replace(resolved(), run_filter=Q(pk__range=(1, 2))).relevant_fields is not None


@isolate_apps("workflows_tasks")
def test_a_save_may_matter_to_a_column_that_the_database_generates(live: Host) -> None:
    """Its name is not among those that are saved, so any save may change it."""

    class Sheet(Model):
        state = IntegerField()
        counts = GeneratedField(expression=Coalesce("state", 0), output_field=IntegerField(), db_persist=True)

        class Meta:
            app_label = "workflows_tasks"

    assert dataclasses.replace(resolved(), run=Sheet, run_filter=Q(state=0)).relevant_fields is not None
    assert dataclasses.replace(resolved(), run=Sheet, run_filter=Q(counts=0)).relevant_fields is None
