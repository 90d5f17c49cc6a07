"""``announce()``: for writes that send no signal."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from tests import hosts
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact, flush_all, stored
from workflows_tasks import announce, inbox
from workflows_tasks.errors import InvalidArgument


@pytest.fixture
def silent_run(live: Host) -> Any:
    """A run that no signal told of."""
    (pk,) = live.make_runs(
        1, workspaces=[live.make_workspace()], workflows=[live.make_workflow()], users=[live.make_user()]
    )
    flush_all()
    assert stored() == []
    return live.run_model._base_manager.get(pk=pk)


def pending() -> int:
    return sum(shard.pending for shard in inbox.status())


def test_a_queryset(live: Host, silent_run: Any) -> None:
    assert announce(live.run_model._base_manager.all()) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_an_ordered_slice_of_a_queryset(live: Host, silent_run: Any) -> None:
    """Whatever the caller's queryset does to its rows, its runs are announced."""
    assert announce(live.run_model._base_manager.order_by("-pk")[:5]) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_keys(live: Host, silent_run: Any) -> None:
    assert announce([silent_run.pk]) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_keys_as_text(live: Host, silent_run: Any) -> None:
    assert announce([str(silent_run.pk)]) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_instances(live: Host, silent_run: Any) -> None:
    assert announce(iter([silent_run, silent_run])) == 1
    flush_all()
    assert len(assert_exact(live)) == 2


def test_an_update_that_no_signal_saw(live: Host, silent_run: Any) -> None:
    announce([silent_run])
    flush_all()
    runs = live.run_model._base_manager.filter(pk=silent_run.pk)
    runs.update(**{live.used_at_field: moment(-500)})
    announce(runs)
    flush_all()
    assert {row.used_at for row in assert_exact(live)} == {moment(-500)}


def test_runs_that_a_write_took_away(live: Host, silent_run: Any) -> None:
    announce([silent_run])
    flush_all()
    runs = live.run_model._base_manager.filter(pk=silent_run.pk)
    keys = list(runs.values_list("pk", flat=True))
    runs._raw_delete(runs.db)
    assert announce(keys) == 1
    flush_all()
    assert assert_exact(live) == []


def test_inside_a_transaction_it_waits_for_the_commit(live: Host, silent_run: Any) -> None:
    with transaction.atomic():
        announce([silent_run])
        assert pending() == 0
    assert pending() == 1


def test_a_rolled_back_transaction_announces_nothing(live: Host, silent_run: Any) -> None:
    with transaction.atomic():
        announce([silent_run])
        transaction.set_rollback(True)
    assert pending() == 0


def test_nothing(live: Host) -> None:
    assert announce([]) == 0
    assert announce(live.run_model._base_manager.none()) == 0
    assert pending() == 0


def test_more_than_one_look_up_takes(live: Host) -> None:
    keys = live.make_runs(
        2_500, workspaces=[live.make_workspace()], workflows=[live.make_workflow()], users=[live.make_user()]
    )
    assert announce(keys) == 2_500
    flush_all()
    assert_exact(live)


@pytest.mark.parametrize("wrong", ["12", b"12", 12, None, object()])
def test_what_is_no_collection_is_refused(live: Host, wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"takes a queryset or an iterable: announce\(\[run\]\)"):
        announce(wrong)
    assert pending() == 0


def test_a_single_run_is_refused(live: Host, silent_run: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"announce\(\[run\]\)"):
        announce(silent_run)


def test_another_models_instance_is_refused(live: Host, silent_run: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"it takes runs, {live.run_model._meta.label}"):
        announce([silent_run, live.make_workspace()])
    assert pending() == 0


def test_another_models_queryset_is_refused(live: Host) -> None:
    with pytest.raises(InvalidArgument, match=f"queryset of {live.workspace_model._meta.label}; it takes runs"):
        announce(live.workspace_model.objects.all())


def test_a_run_that_was_never_saved_is_refused(live: Host) -> None:
    with pytest.raises(InvalidArgument, match="never saved; save it first"):
        announce([live.run_model(pk=None)])


def test_no_key_at_all_is_refused_and_nothing_is_announced(live: Host, silent_run: Any) -> None:
    with pytest.raises(InvalidArgument):
        announce([silent_run.pk, None])
    assert pending() == 0


@pytest.mark.parametrize("number", range(len(hosts.current().poison)))
def test_what_is_no_key_is_refused_and_nothing_is_announced(live: Host, silent_run: Any, number: int) -> None:
    with pytest.raises(InvalidArgument, match="no primary key of"):
        announce([silent_run.pk, live.poison[number]])
    assert pending() == 0
