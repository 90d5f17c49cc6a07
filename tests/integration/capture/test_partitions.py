"""A host whose table of runs is partitioned: every way of writing it is captured, or told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.adapter import Host, moment
from tests.integration.capture.sample import Sample, copy_sql, logged, new_key
from tests.sessions import execute, query
from workflows_tasks.capture import installation, record, watch
from workflows_tasks.tick import tick

pytestmark = pytest.mark.host_independent

RUNS = "bots_savedrun"


@pytest.fixture
def partitioned(live: Host) -> Iterator[Sample]:
    """The host's table is swapped for a partitioned one, by ``surface``: one for runs, another for previews."""
    execute(f"ALTER TABLE {RUNS} RENAME TO kept")
    execute(f"CREATE TABLE {RUNS} (LIKE kept INCLUDING DEFAULTS) PARTITION BY LIST (surface)")
    ((sequence,),) = query("SELECT pg_get_serial_sequence('kept', 'id')")
    execute(f"ALTER TABLE {RUNS} ALTER id SET DEFAULT nextval('{sequence}')")
    for name, surfaces in (("of_runs", "0"), ("of_previews", "1, 2")):
        execute(f"CREATE TABLE {name} PARTITION OF {RUNS} FOR VALUES IN ({surfaces})")
    execute(f"CREATE INDEX ON {RUNS} (id)")
    try:
        assert not installation.install()
        yield Sample(live)
    finally:
        execute(f"DROP TABLE {RUNS}")
        execute(f"ALTER TABLE kept RENAME TO {RUNS}")
        execute("DROP TABLE IF EXISTS added")
        installation.install()


def test_through_the_parent_and_directly(partitioned: Sample) -> None:
    sample = partitioned
    with sample.written():
        sample.host.save_again(sample.older)
    with sample.written():
        execute(f"UPDATE of_runs SET workspace_id = {sample.other_workspace.pk} WHERE id = {sample.older.pk}")
    with sample.written():
        execute(f"DELETE FROM of_runs WHERE id = {sample.newest.pk}")
    with sample.written():
        copied = copy_sql(sample.host.run_model, sample.older, new_key(sample))
        execute(copied.replace(f'INSERT INTO "{RUNS}"', "INSERT INTO of_runs"))


def test_moved_between_partitions(partitioned: Sample) -> None:
    sample = partitioned
    with sample.written():
        execute(f"UPDATE {RUNS} SET surface = 2 WHERE id = {sample.newest.pk}")
    with sample.written():
        execute(f"UPDATE {RUNS} SET surface = 0, updated_at = %s WHERE id = {sample.newest.pk}", [moment(9)])
    assert query(f"SELECT tableoid::regclass::text FROM {RUNS} WHERE id = {sample.newest.pk}") == [("of_runs",)]


def test_truncate_of_one_partition_and_of_all(partitioned: Sample) -> None:
    sample = partitioned
    with sample.written():
        execute("TRUNCATE of_runs")
    sample.run(1)
    sample.check()
    with sample.written():
        execute(f"TRUNCATE {RUNS}")


def test_a_partition_attached_later(partitioned: Sample) -> None:
    """The runs that it brings along come by no write. The tick says so, and the command that it names puts it right;
    what is written to it later is captured."""
    sample = partitioned
    execute(f"CREATE TABLE added (LIKE {RUNS} INCLUDING DEFAULTS)")
    execute(f"INSERT INTO added SELECT * FROM {RUNS} WHERE id = {sample.newest.pk}")
    execute("UPDATE added SET id = 1000000, updated_at = %s", [moment(9)])
    execute(f"ALTER TABLE {RUNS} DETACH PARTITION of_runs")
    execute("INSERT INTO added SELECT * FROM of_runs")
    assert logged() == 0
    execute(f"ALTER TABLE {RUNS} ATTACH PARTITION added FOR VALUES IN (0)")
    tick()
    assert any("other partitions" in problem for problem in record.installation().problems)
    assert not installation.install()
    tick()
    sample.check()
    assert not watch.problems()
    with sample.written():
        execute("DELETE FROM added WHERE id = 1000000")
    with sample.written():
        execute("TRUNCATE added")
    execute("DROP TABLE of_runs")


def test_removed_from_partitions_too(partitioned: Sample) -> None:
    assert not installation.remove()
    of_runs = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'of_runs'::regclass AND tgname LIKE 'recent_workflows_%%'"
    assert not query(of_runs)
    assert not query("SELECT proname FROM pg_proc WHERE proname LIKE 'recent\\_workflows\\_bots\\_saved%%'")
    execute(f"DELETE FROM {RUNS} WHERE id = {partitioned.newest.pk}")
    assert logged() == 0
    assert not installation.install()
    tick()
    partitioned.check()
