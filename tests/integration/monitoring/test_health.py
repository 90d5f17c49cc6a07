"""``health``: ok or FAIL, and why: the part to look at, the queue, the error, the command."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil
import pytest
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.models import Q
from django.db.models.functions import Now

from backfill import models
from demo.servers import Process, free_port
from tests import sessions
from tests.backfill.given import carry_out, plan_backfill
from tests.commands import ROOT
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.hosts.environment import OVERRIDES
from tests.integration.monitoring.conftest import Age
from tests.integration.nudge.worker import working
from tests.oracle import flush_all
from tests.threads import beside
from tests.waiting import until
from workflows_tasks import conf, tasks
from workflows_tasks.capture import installation, triggers
from workflows_tasks.capture.triggers import ROW_TRIGGER
from workflows_tasks.comparison import compare
from workflows_tasks.management.commands import recent_workflows
from workflows_tasks.models import CHANGES, Installation, Shard
from workflows_tasks.monitoring import health, workers
from workflows_tasks.monitoring.health import FAIL, OK, WARN
from workflows_tasks.monitoring.status import status
from workflows_tasks.projection.flush import flush

pytestmark = pytest.mark.host_independent

Sql = Callable[..., None]


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def found(state: str) -> dict[str, str]:
    """What ``health`` finds in this state: part -> why."""
    return {finding.part: finding.why for finding in health.look() if finding.state == state}


def assert_told(part: str, *reasons: str, state: str = FAIL) -> None:
    """That part is told, and no other, and each of the reasons."""
    told = found(state)
    assert set(told) == {part}, told
    for reason in reasons:
        assert re.search(reason, told[part]), told[part]


def test_a_sound_host(sound: Host) -> None:
    parts = found(OK)
    assert set(parts) == {"capture", "database", "tick", "audit", "changes", "quarantine", "redis"}
    assert parts["changes"] == "none waiting"
    assert found(FAIL) == found(WARN) == {}


def test_changes_that_wait_a_moment(run: Any, sound: Host) -> None:
    sound.save_again(run)
    assert re.match(r"1 change waiting, the oldest for .* s$", found(OK)["changes"])


def test_a_fault_is_told_within_ten_seconds(configure: Configure) -> None:
    assert health.late_s() <= 10
    configure(FLUSH_WINDOW_S=4.0, TICK_PERIOD_S=30.0)
    assert health.late_s() == 90


def test_beat_has_stopped(sound: Host, start: Callable[..., Process]) -> None:
    start()
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=health.late_s() + 1))
    assert_told("tick", r"beat is not running", r"celery -A … beat", r"s ago, .* allowed")


def test_the_audit_has_stopped_or_could_not_compare(sound: Host) -> None:
    Installation.objects.update(audited_at=Now() - timedelta(days=1))
    assert_told("audit", "is beat running, with an entry for workflows_tasks.tasks.audit")
    Installation.objects.update(audited_at=Now(), audit_findings=["workspaces 7..9: too long"])
    assert_told("audit", "1 finding in this round", "workspaces 7..9", "recent_workflows verify", state=WARN)
    call_command("recent_workflows", "verify")
    assert found(WARN) == {}, "all was compared by hand"
    Installation.objects.update(audited_at=None)
    assert_told("audit", "no step yet", state=WARN)


def test_no_worker_consumes_the_queue(sound: Host, run: Any, wait: Age) -> None:
    sound.save_again(run)
    wait(30)
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
    told = found(FAIL)
    assert set(told) == {"changes", "tick"}
    queue = conf.settings().queue
    for why in told.values():
        assert re.search(rf"no responding worker consumes the queue '{queue}' \(\d+ messages? there\)", why)
        assert f"celery -A … worker -Q {queue}" in why
    late = re.match(r"1 change waiting in shard \d, the oldest for (\d+\.\d) s; .* s are allowed", told["changes"])
    assert late
    assert 30 + workers.BROKER_S <= float(late[1]) < 40, "the status is of after the workers were asked"


@pytest.fixture
def start(alone: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``start(*flags)``: a worker of one process on this test's queue."""
    plain = {key: value for key, value in settings.RECENT_WORKFLOWS.items() if isinstance(value, str | int | float)}
    env = {"DATABASE_URL": sessions.url(), OVERRIDES: json.dumps(plain), "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1"}
    argv = [sys.executable, "-m", "celery", "-A", "celeryconfig", "worker", "-Q", alone, "-n", f"{alone}@%h", "-c", "1"]
    with ExitStack() as started:

        def start(*flags: str) -> Process:
            log = tmp_path / "worker.log"
            worker = Process([*argv, "--loglevel=INFO", *flags], log, env=env)
            started.callback(worker.stop, SIGKILL)
            worker.start(lambda: " ready." in log.read_text())
            Installation.objects.update(ticked_at=Now())  # it took seconds
            return worker

        yield start


def test_a_host_s_task_keeps_the_worker_busy(
    sound: Host, alone: str, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is empty, because the worker has taken its messages. It is named with the task, and beat is not
    blamed."""
    monkeypatch.setattr(workers, "WORKS_LONG_S", 0.0)
    with sessions.locked("LOCK TABLE bots_savedrun"):
        start()
        tasks.audit.apply_async(queue=alone)  # any task that takes long
        for _ in range(2):
            tasks.tick.apply_async(queue=alone)
        until(lambda: workers.ask().is_busy)
        Shard.objects.update(flushed_at=Now())
        Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
        assert_told("tick", r"are busy \(.*@.* works on workflows_tasks.tasks.audit for .* s\): 2 messages there")


def test_the_worker_is_busy(sound: Host, run: Any, wait: Age, start: Callable[..., Process]) -> None:
    (process,) = psutil.Process(start().pid).children()
    process.suspend()
    for _ in range(3):
        tasks.tick.apply_async(queue=conf.settings().queue)
    sound.save_again(run)
    wait(30)
    assert_told("changes", r"the workers of the queue '.*' are busy: \d+ message", "a worker of its own")
    Shard.objects.update(flushed_at=Now() - timedelta(seconds=60))
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
    assert all("are busy" in why for why in found(FAIL).values()), "and not that beat has stopped"


def test_the_workers_processes_stand_still(sound: Host, start: Callable[..., Process]) -> None:
    """They have accepted no task, so none is named. But messages wait and nothing is flushed: beat is not to blame."""
    worker = start("-c", "2")
    until(lambda: not workers.ask().messages and not workers.ask().workers[0].active)
    for process in psutil.Process(worker.pid).children():
        process.suspend()
    for _ in range(12):
        tasks.tick.apply_async(queue=conf.settings().queue)
    until(lambda: workers.ask().messages)
    Shard.objects.update(flushed_at=Now() - timedelta(seconds=3))
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
    assert_told("tick", r"the workers of the queue '.*' are busy: \d+ messages there")


def test_the_worker_replaces_its_process_after_each_task(
    sound: Host, run: Any, wait: Age, start: Callable[..., Process]
) -> None:
    """It takes ticks and flushes from the queue, and comes to each of them seconds later: beat is not to blame."""
    worker = start("--max-tasks-per-child=1")
    assert f"@{platform.node()} replaces its process after each task" in worker.log.read_text(), "told at once"
    (process,) = psutil.Process(worker.pid).children()
    process.suspend()
    sound.save_again(run)
    wait(30)
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
    told = found(FAIL)
    assert set(told) == {"changes", "tick"}
    for why in told.values():
        assert re.search(r"@.* replaces its process after each task, .* start it with --max-tasks-per-child=1000", why)


def test_no_message_came_and_the_tick_has_stopped(
    sound: Host, run: Any, wait: Age, celery_app_in_process: Celery, alone: str, start: Callable[..., Process]
) -> None:
    from tests import broker

    sound.save_again(run)
    wait(30)
    broker.take_all(celery_app_in_process, alone)
    start()
    Installation.objects.update(ticked_at=Now() - timedelta(seconds=60))
    assert re.search("no flush message came, and the tick has stopped", found(FAIL)["changes"])


def test_another_session_holds_the_shard(
    sound: Host, run: Any, wait: Age, celery_app_in_process: Celery, alone: str, start: Callable[..., Process]
) -> None:
    from tests import broker

    sound.save_again(run)
    wait(30)
    broker.take_all(celery_app_in_process, alone)
    start()
    with sessions.locked("SELECT FROM workflows_tasks_shard FOR UPDATE"):
        assert_told(
            "changes", r"the queue '.*' is empty and beat runs: the shard may be held by session \d+ of .*open for"
        )


def test_flush_tells_who_holds_a_shard_and_goes_on_afterwards(
    sound: Host, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_workflows, "TOLD_EVERY_S", 0.0)
    sound.save_again(run)
    out, told = StringIO(), StringIO()
    with beside() as start:
        with sessions.locked("SELECT FROM workflows_tasks_shard FOR UPDATE"):
            flushing = start(lambda: call_command("recent_workflows", "flush", stdout=out, stderr=told))
            until(lambda: re.search(r"waits for whoever holds a shard: session \d+ of ", told.getvalue()))
        flushing.result()
    assert out.getvalue().startswith("flushed 1 change; ")


def test_the_broker_is_away(
    sound: Host, run: Any, wait: Age, celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is waited for only where something is late."""
    sound.save_again(run)
    wait(30)
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{free_port()}/1")
    assert_told("changes", "the broker does not answer")
    flush_all()
    assert found(FAIL) == {}


@contextmanager
def renamed_column() -> Iterator[None]:
    execute("ALTER TABLE bots_savedrun RENAME COLUMN uid TO somebody")
    try:
        yield
    finally:
        execute("ALTER TABLE bots_savedrun RENAME COLUMN somebody TO uid")


def test_flushes_fail_and_all_goes_on_by_itself_afterwards(
    sound: Host, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With the error, since when, in which shard. One line in the log for each failed flush, not a traceback."""
    sound.save_again(run)
    (shard,) = (number for number in range(8) if flush_of(number).pending)
    with renamed_column():
        for _ in range(2):
            with pytest.raises(DatabaseError):
                flush(shard)
        told = found(FAIL)
        assert re.search(rf"flushes fail \(shard {shard} since .* s\): .*uid.* does not exist", told["changes"])
        assert "has no column uid" in told["capture"]
    lines = [record for record in caplog.records if record.getMessage().startswith("flush failed")]
    assert len(lines) == 2
    assert not any("\n" in record.getMessage() or record.exc_info for record in lines)
    flush_all()
    assert found(FAIL) == {}


def flush_of(shard: int) -> Any:
    from workflows_tasks.projection import backlog

    return backlog.status()[shard]


def test_the_quarantine(sound: Host, run: Any) -> None:
    sound.save_again(run)
    execute(f"UPDATE \"{CHANGES}\" SET error = 'refused: 7 is unlucky', tries = 1, retry_at = now() + interval '1 h'")
    assert_told("quarantine", "1 change that the database refuses", "7 is unlucky", r"flush --retry")


def test_a_trigger_is_dropped_or_disabled(sound: Host) -> None:
    execute(f'ALTER TABLE bots_savedrun DISABLE TRIGGER "{ROW_TRIGGER}"')
    assert_told("capture", "bots_savedrun: .*disabled")
    execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON bots_savedrun')
    assert_told("capture", f"has no trigger {ROW_TRIGGER}", triggers.COMMAND)
    installation.install()
    assert found(FAIL) == {}


def test_capture_is_turned_off(sound: Host) -> None:
    installation.turn_off()
    assert "turned off" in found(FAIL)["capture"]
    installation.install()
    assert found(FAIL) == {}


def test_the_change_log_is_missing(sound: Host) -> None:
    execute(f'ALTER TABLE "{CHANGES}" RENAME TO renamed')
    try:
        told = found(FAIL)
        assert set(told) == {"capture", "database"} or set(told) == {"database"}
        assert triggers.COMMAND in told["database"]
    finally:
        execute(f'ALTER TABLE renamed RENAME TO "{CHANGES}"')
    assert found(FAIL) == {}


def test_a_database_that_was_not_migrated(sound: Host) -> None:
    execute("ALTER TABLE workflows_tasks_shard RENAME TO renamed")
    try:
        assert "manage.py migrate" in found(FAIL)["database"]
    finally:
        execute("ALTER TABLE renamed RENAME TO workflows_tasks_shard")


def test_another_number_of_shards_or_another_filter(sound: Host, configure: Configure) -> None:
    configure(SHARDS=5)
    assert_told("capture", r"SHARDS is 5 in a process on .* and 8 in the database", "triggers --install")
    configure(SHARDS=8, RUN_FILTER=Q(surface=0, uid__gt=""))
    assert_told("capture", "RUN_FILTER or GRAINS differ", triggers.COMMAND)


def test_redis_is_away_which_is_no_failure(sound: Host, configure: Configure) -> None:
    configure(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert_told("redis", "that alone makes nothing late, but each process sends flush messages of its own", state=WARN)
    assert found(FAIL) == {}
    configure(REDIS_URL="")
    assert "redis" not in found(OK)


def test_history_that_is_not_filled(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a backfill of everything has succeeded; meanwhile it is named."""
    sound.make_runs(
        3, workspaces=[sound.make_workspace()], workflows=[sound.make_workflow()], users=[sound.make_user()]
    )
    flush_all()
    Installation.objects.update(lacks_history=True)
    assert_told("history", "^the table lacks runs from before capture; run: manage.py backfill start$", state=WARN)
    assert status().as_json()["lacks_history"] is True
    backfill = plan_backfill()
    assert_told("history", rf"; see backfill {backfill.pk} \(running\): manage.py backfill status", state=WARN)
    carry_out(backfill)
    assert found(WARN) == found(FAIL) == {}
    Installation.objects.update(lacks_history=True)
    monkeypatch.setattr(compare, "_unfilled", [])
    assert_told("history", 'add "backfill" to INSTALLED_APPS', state=WARN)


def test_a_backfill_that_waits_or_failed(sound: Host, run: Any) -> None:
    backfill = plan_backfill()
    assert found(WARN) == found(FAIL) == {}
    models.backfills().filter(pk=backfill.pk).update(waiting="replica b is 12 s behind")
    assert_told("backfill", rf"^backfill {backfill.pk} waits: replica b is 12 s behind$", state=WARN)
    models.backfills().filter(pk=backfill.pk).update(waiting="", status="failed", error="chunk 3 failed")
    see = f"see: manage.py backfill status {backfill.pk}"
    assert_told("backfill", rf"^backfill {backfill.pk} failed: chunk 3 failed; {see}$", state=WARN)


def test_an_index_of_the_host_is_missing(sound: Host) -> None:
    with index_dropped():
        assert_told(
            "indexes",
            "no index of bots_savedrun serves finding the runs.*; execute: CREATE INDEX CONCURRENTLY",
            state=WARN,
        )


@contextmanager
def index_dropped() -> Iterator[None]:
    """Without the index that finds the runs of a version."""
    names = [name for (name,) in sessions.query(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'bots_savedrun'::regclass AND indkey[0] = "
        "(SELECT attnum FROM pg_attribute WHERE attrelid = indrelid AND attname = 'parent_version_id')"
    )]  # fmt: skip
    (definition,) = [sessions.query(f"SELECT pg_get_indexdef('{name}'::regclass)")[0][0] for name in names]
    execute(f"DROP INDEX {names[0]}")
    try:
        yield
    finally:
        execute(definition)


def test_what_is_over_while_the_workers_are_asked(
    sound: Host, run: Any, wait: Age, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound.save_again(run)
    wait(30)
    real, asked = workers.ask, []

    def ask() -> workers.LiveQueue:
        asked.append(real())
        flush_all()
        return asked[0]

    monkeypatch.setattr(workers, "ask", ask)
    assert found(FAIL) == {}
    assert asked


def test_a_missing_column_needs_no_index(sound: Host) -> None:
    """Its name would be in the statement that makes it."""
    with renamed_column():
        assert "has no column uid" in found(FAIL)["capture"]
        assert "indexes" not in found(WARN)


def test_a_rescan_under_way_is_told(sound: Host) -> None:
    Installation.objects.update(rescan_waits_for=["3/4"], rescan_reason="triggers were installed")
    assert_told("rescan", "rows may be wrong", "triggers were installed", state=WARN)


@pytest.mark.usefixtures("redis_as_broker")
def test_with_a_worker_and_beat_nothing_is_late(
    sound: Host, run: Any, celery_app_in_process: Celery, alone: str
) -> None:
    with working(celery_app_in_process, alone) as worker:
        sound.save_again(run)
        tasks.tick.apply_async(queue=alone)
        worker.until_idle()
        assert found(FAIL) == {}
