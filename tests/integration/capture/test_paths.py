"""What leads from a run to its workflow, and what the filter reads beside the run: their writes are captured too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.test import override_settings

from tests.integration.capture.sample import Sample, key_sql, set_sql, sql_value, table
from tests.integration.capture.test_deletes import constraint
from tests.sessions import execute, session
from workflows_tasks.capture import installation, triggers
from workflows_tasks.host import host as resolved

HAS_VERSIONS = pytest.mark.skipif(len(resolved().path) == 1, reason="nothing is between a run and its workflow here")


def by_save(instance: Any, hop: Any, target: Any) -> None:
    setattr(instance, hop.name, target)
    instance.save()


def by_update(instance: Any, hop: Any, target: Any) -> None:
    type(instance)._base_manager.filter(pk=instance.pk).update(**{hop.name: target})


def pointing(instance: Any, hop: Any, target: Any) -> str:
    """SQL that makes an instance point to another target."""
    return f'UPDATE {table(type(instance))} SET "{hop.column}" = {sql_value(hop, target)} WHERE {key_sql(instance)}'


def by_sql(instance: Any, hop: Any, target: Any) -> None:
    execute(pointing(instance, hop, target))


def by_another_key(instance: Any, hop: Any, target: Any) -> None:
    """Deleted and made again under its key, in one transaction, whose end is when foreign keys are checked."""
    values = {field.attname: getattr(instance, field.attname) for field in instance._meta.concrete_fields}
    again = type(instance)(**values)
    setattr(again, hop.name, target)
    with transaction.atomic():
        execute(f"DELETE FROM {table(type(instance))} WHERE {key_sql(instance)}")
        again.save(force_insert=True)


WAYS: dict[str, Callable[[Any, Any, Any], None]] = {
    "save": by_save,
    "update": by_update,
    "raw SQL": by_sql,
    "deleted and made again": by_another_key,
}


@HAS_VERSIONS
@pytest.mark.parametrize("way", WAYS)
def test_a_hop_led_to_another(sample: Sample, way: str) -> None:
    """Each hop of the path between the run and its workflow."""
    last_first = reversed(range(len(sample.hops(sample.newest))))
    for position, leads_to_target in zip(last_first, (sample.other, sample.far), strict=False):
        instance, hop = sample.hops(sample.newest)[position]
        target = getattr(sample.hops(leads_to_target)[position][0], hop.name)
        with sample.written():
            WAYS[way](instance, hop, target)


@HAS_VERSIONS
@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize("in_order", [True, False])
def test_both_hops_changed_at_once(sample: Sample, in_order: bool, deletes: bool) -> None:
    """Two transactions, neither of which sees the other's change: a run gets another first hop, and what that leads
    through gets another target. With ``deletes``, it is deleted and made again under its key."""
    first = resolved().path[0]
    new_first, _ = sample.hops(sample.far)[0]
    last, last_hop = sample.hops(sample.far)[-1]
    target = getattr(sample.hops(sample.other)[-1][0], last_hop.name)
    # Where the two share an object, the constraint would have one wait for the other.
    without = constraint(first, None) if deletes else nullcontext()
    with without, session() as one, session() as two:
        one.execute("BEGIN")
        two.execute("BEGIN")
        one.execute(set_sql(first, sql_value(first, new_first), sample.newest))
        if deletes:
            two.execute(
                f"CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT * FROM {table(type(last))} WHERE {key_sql(last)}"
            )
            two.execute(f"DELETE FROM {table(type(last))} WHERE {key_sql(last)}")
            two.execute(f"INSERT INTO {table(type(last))} SELECT * FROM gone")
        two.execute(pointing(last, last_hop, target))
        for each in (one, two) if in_order else (two, one):
            each.execute("COMMIT")
            sample.follows()
    sample.check()


@pytest.fixture
def reads_workspace(sample: Sample) -> Iterator[Sample]:
    """The sample, with a filter that reads a column of the workspace."""
    wanted = sample.host.filter_on_workspace
    if wanted is None:
        yield sample
        return
    with override_settings(RECENT_WORKFLOWS={**settings.RECENT_WORKFLOWS, "RUN_FILTER": wanted}):
        installation.install()
        yield sample
    for trigger in (triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER):
        execute(f'DROP TRIGGER "{trigger}" ON {table(sample.host.workspace_model)}')
    installation.install()


def test_a_workspace_that_the_filter_reads(reads_workspace: Sample) -> None:
    sample, host = reads_workspace, reads_workspace.host
    spaces = host.workspace_model._base_manager
    with sample.written():
        spaces.filter(pk=sample.workspace.pk).update(**host.closed)
    with sample.written():
        for name, value in host.closed.items():
            setattr(sample.other_workspace, name, value)
        sample.other_workspace.save()
    with sample.written():
        ((name, value),) = host.opened.items()
        column = host.workspace_model._meta.get_field(name).column
        execute(f'UPDATE {table(host.workspace_model)} SET "{column}" = %s WHERE {key_sql(sample.workspace)}', [value])
    with sample.written(), transaction.atomic():  # moved into one that is hidden, by two statements
        host.move_to_workspace(sample.far, sample.workspace)
        spaces.filter(pk=sample.workspace.pk).update(**host.closed)


@pytest.mark.parametrize("in_order", [True, False])
def test_a_run_moved_while_its_new_workspace_is_hidden(reads_workspace: Sample, in_order: bool) -> None:
    """Two transactions; neither sees what the other does."""
    sample, host, field = reads_workspace, reads_workspace.host, resolved().workspace
    ((name, value),) = host.closed.items()
    column = host.workspace_model._meta.get_field(name).column
    with session() as one, session() as two:
        one.execute("BEGIN")
        two.execute("BEGIN")
        two.execute(
            f'UPDATE {table(host.workspace_model)} SET "{column}" = %s WHERE {key_sql(sample.other_workspace)}', [value]
        )
        one.execute(set_sql(field, sql_value(field, sample.other_workspace), sample.newest))
        for each in (one, two) if in_order else (two, one):
            each.execute("COMMIT")
            sample.follows()
    sample.check()
