"""A deploy that changes what counts, or the number of shards: noticed, told, and put right by the command it names."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.db.models import Q

from tests.conftest import Configure
from tests.integration.capture.sample import Sample, logged
from tests.oracle import expected, flush_all, stored
from tests.sessions import execute, locked, psql, query, session
from tests.threads import beside, until_waiting
from workflows_tasks import conf, tasks
from workflows_tasks.capture import installation, record
from workflows_tasks.errors import WrongShards
from workflows_tasks.history import EVERYWHERE, compare
from workflows_tasks.keys import shard_of
from workflows_tasks.models import CHANGES, Shard
from workflows_tasks.monitoring import health
from workflows_tasks.projection import changes
from workflows_tasks.projection.flush import flush
from workflows_tasks.projection.flush import flush_all as flush_everything
from workflows_tasks.tick import tick

pytestmark = pytest.mark.host_independent


def test_another_number_of_shards(deployed: Sample, configure: Configure) -> None:
    """Flushes refuse, and say what to do. The command deals out what waits, while saves go on with the old triggers
    and the new ones."""
    sample = deployed
    sample.host.save_again(sample.older)
    configure(SHARDS=3)
    with pytest.raises(WrongShards, match=r"SHARDS is 3 in a process on .* and 8 in the database.*--install"):
        flush(0)
    assert query(f"SELECT count(*), max(shards) FROM {CHANGES}") == [(1, 8)]
    with beside() as start:
        saving = start(partial(save_all, sample))
        assert not installation.install()
        saving.result()
    tick()
    assert query(f"SELECT DISTINCT shards FROM {CHANGES}") == [(3,)]
    sample.check()
    configure(SHARDS=8)
    with pytest.raises(WrongShards, match=r"SHARDS is 8 in a process on .* and 3"):
        flush(0)
    execute(f"DELETE FROM bots_savedrun WHERE id = {sample.newest.pk}")
    assert not installation.install()
    sample.check()


def test_what_waits_is_dealt_out_in_parts(
    deployed: Sample, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look of beat that dealt out all of a flood would run into its limit, each time."""
    monkeypatch.setattr(changes, "MOST_TAKEN", 2)
    changes.log_runs((str(workspace), "0") for workspace in range(5))
    configure(SHARDS=3)
    assert not installation.install()
    assert [changes.deal_again() for _ in range(4)] == [2, 2, 1, 0]
    assert query(f"SELECT workspace, shard FROM {CHANGES} WHERE shards = 3 AND run = '0' ORDER BY workspace") == [
        (str(workspace), shard_of(str(workspace), 3)) for workspace in range(5)
    ]
    deployed.host.save_again(deployed.older)
    deployed.check()


def test_a_worker_and_beat_with_another_number_of_shards_change_nothing(
    deployed: Sample, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """They say so, and the others' health names them. Else two numbers would deal the log to and fro, and each would
    take the other's functions for outdated and ask for a rescan."""
    sample = deployed
    sample.host.save_again(sample.older)
    ((shard, _, _),) = before = query(f"SELECT shard, id, run FROM {CHANGES}")
    configure(SHARDS=3)
    tasks.tick()
    tasks.flush(shard)
    tasks.flush((shard + 1) % 8)
    assert caplog.text.count("SHARDS is 3 in a process") == 2
    with pytest.raises(WrongShards):
        flush_everything()
    configure(SHARDS=8)
    row = record.installation()
    assert (row.problems, row.rescan_waits_for) == ([], None)
    assert query(f"SELECT shard, id, run FROM {CHANGES}") == before
    assert [each.number for each in Shard.objects.exclude(error="")] == [shard], "only where a flush will clear it"
    assert any("SHARDS is 3 in a process" in each.why for each in health.look() if each.state == health.FAIL)
    tasks.tick()
    sample.check()
    assert not Shard.objects.exclude(error="").filter(number=shard)


def save_all(sample: Sample) -> None:
    for run in (sample.newest, sample.far, sample.other) * 5:
        sample.host.save_again(run)


CHANGES_OF_SETTINGS: dict[str, dict[str, Any]] = {
    "another filter": {"RUN_FILTER": Q(surface=2)},
    "a filter that reads another table": {"RUN_FILTER": Q(surface=0) & ~Q(workspace__name="closed")},
    "one grain less": {"GRAINS": ("user",)},
    "the other grain": {"GRAINS": ("workspace",)},
    "another column of time": {"USED_AT_FIELD": "created_at"},
}


@pytest.mark.parametrize("what", CHANGES_OF_SETTINGS)
def test_what_counts_is_changed(
    deployed: Sample, configure: Configure, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody writes the rows that are wrong now. The tick tells; ``triggers --install`` has all looked at again."""
    sample = deployed
    sample.host.hide(sample.newest)
    if what == "a filter that reads another table":
        type(sample.other_workspace).objects.filter(pk=sample.other_workspace.pk).update(**sample.host.closed)
    flush_all()
    configure(**CHANGES_OF_SETTINGS[what])
    tick()
    assert "triggers --install" in caplog.text
    assert record.fingerprint_changed(record.installation())
    assert not installation.install()
    assert not record.fingerprint_changed(record.installation())
    true = truth(sample, what)
    assert set(stored()) != set(true)
    tick()
    flush_all()
    assert set(stored()) == set(true)
    execute("DROP TRIGGER IF EXISTS recent_workflows_capture ON bots_workspace")
    execute("DROP TRIGGER IF EXISTS recent_workflows_truncate ON bots_workspace")


def truth(sample: Sample, what: str) -> list[Any]:
    """What the table should say; the oracle knows the host's own filter and time."""
    if what == "another filter":
        workspace, workflow, run = sample.workspace.pk, sample.workflow.pk, sample.newest
        return [(workspace, uid, workflow, run.updated_at, run.pk) for uid in ("", sample.user)]
    if what == "another column of time":
        by_creation = dict(sample.host.run_model.objects.values_list("pk", "created_at"))
        return [(*row[:3], by_creation[row.run], row.run) for row in expected(sample.host)]
    return list(expected(sample.host))


def test_a_rescan_waits_for_who_began_before(deployed: Sample) -> None:
    """A writer may still be in the old function when the new one is there: what it missed is looked at after it."""
    sample = deployed
    installation.turn_off()
    with session() as other:
        other.execute("BEGIN")
        other.execute(f"DELETE FROM bots_savedrun WHERE id = {sample.newest.pk}")
        assert not installation.install()
        tick()
        flush_all()
        assert record.installation().rescan_waits_for is not None
        other.execute("COMMIT")
    tick()
    assert record.installation().rescan_waits_for is None
    sample.check()


@pytest.mark.parametrize("prepares", [False, True])
def test_a_rescan_waits_for_a_statement_that_has_written_nothing_yet(deployed: Sample, prepares: bool) -> None:
    """It began before the functions were replaced, and calls the old ones at its end. It has no transaction id when the
    rescan is asked for, and may be prepared afterwards."""
    sample = deployed
    installation.turn_off()
    delete = f"DELETE FROM bots_savedrun USING (SELECT pg_advisory_xact_lock(7)) AS slow WHERE id = {sample.newest.pk}"
    with beside() as start, session() as other:
        other.execute(f"UPDATE bots_savedrun SET uid = uid WHERE id = {sample.far.pk}")  # to have the old bodies
        other.execute("BEGIN")
        with locked("SELECT pg_advisory_xact_lock(7)"):
            deleting = start(lambda: other.execute(delete))
            until_waiting(1)
            assert not installation.install()
            tick()
            flush_all()
        deleting.result()
        assert query(f"SELECT count(*) FROM {CHANGES}") == [(0,)], "it has called the old ones"
        other.execute("PREPARE TRANSACTION 'late'" if prepares else "COMMIT")
        tick()
        flush_all()
        if prepares:
            other.execute("COMMIT PREPARED 'late'")
    tick()
    sample.check()


def test_a_table_that_is_read_no_more(deployed: Sample, configure: Configure) -> None:
    """Its triggers stay, for dropping them would stop readers. They write nothing any more."""
    sample, before = deployed, conf.settings().run_filter
    configure(RUN_FILTER=sample.host.filter_on_workspace)
    assert not installation.install()
    type(sample.workspace).objects.filter(pk=sample.workspace.pk).update(**sample.host.closed)
    assert logged() > 0
    configure(RUN_FILTER=before)
    assert not installation.install()
    execute(f"DELETE FROM {CHANGES}")
    type(sample.workspace).objects.filter(pk=sample.workspace.pk).update(**sample.host.opened)
    assert logged() == 0


def test_scopes_of_before_a_rename(deployed: Sample) -> None:
    """What waits in the log names a way to runs that is called otherwise since the deploy: every run is looked at."""
    sample = deployed
    psql(f"SET session_replication_role = replica; DELETE FROM bots_savedrun WHERE id = {sample.newest.pk}")
    execute(
        f"INSERT INTO {CHANGES} (shard, shards, lookup, key)"
        " SELECT shard, 8, 'called_so_before', '1' FROM generate_series(0, 7) AS shard"
    )
    assert {difference.state for difference in compare(EVERYWHERE)} == {"waiting"}
    sample.check()
