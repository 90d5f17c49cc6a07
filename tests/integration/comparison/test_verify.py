"""Ranges a part at a time; what failed is passed over; what differs is put right by the flushes."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection

from tests.conftest import Configure
from tests.integration.comparison.corruptions import CORRUPTIONS, ThreeWorkspaces, lose_changes
from tests.oracle import assert_exact, flush_all
from tests.threads import beside
from workflows_tasks import history
from workflows_tasks.comparison import verify
from workflows_tasks.comparison.compare import DRIFT, compare
from workflows_tasks.models import Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.projection import backlog, flush
from workflows_tasks.projection.ranges import EVERYWHERE, Range

pytestmark = pytest.mark.host_independent


def drift() -> list[Any]:
    return [each for part in verify.parts(EVERYWHERE) for each in part.differences if each.state == DRIFT]


def counted(name: str) -> float:
    return telemetry.merged(Shard.objects.values_list("counters", flat=True)).get(name, 0)


def test_every_corruption_at_once_is_found_and_repaired(
    three: ThreeWorkspaces, caplog: pytest.LogCaptureFixture
) -> None:
    """Exactly those; then nothing is left to find. Each is counted and told."""
    kinds = {}
    for kind, plant in CORRUPTIONS.values():
        workflow = three.host.make_workflow()
        plant(three, workflow)
        kinds[str(workflow.pk)] = kind
    lose_changes()
    found = drift()
    assert {each.workflow: each.kind for each in found if each.uid == ""} == kinds
    before = counted("drift")
    assert verify.repair(found) >= len(kinds)
    assert counted("drift") - before == len(found)
    assert any(record.getMessage().startswith(f"drift={len(found)} ") for record in caplog.records)
    flush_all()
    assert drift() == []
    assert_exact(three.host)


def test_what_waits_is_not_repaired(three: ThreeWorkspaces) -> None:
    three.run(5)
    before = sum(shard.pending for shard in backlog.status())
    assert verify.repair(compare(EVERYWHERE)) == 0
    assert sum(shard.pending for shard in backlog.status()) == before
    assert counted("drift") == 0


def test_what_was_refused_is_tried_again(three: ThreeWorkspaces) -> None:
    from workflows_tasks.models import CHANGES

    three.settle(5).delete()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = 'x', retry_at = clock_timestamp() + interval '1 h'")
    assert verify.repair(compare(EVERYWHERE)) == 1
    flush_all()
    assert assert_exact(three.host) == []
    left = [each for each in backlog.quarantined(50) if each.workspace is not None]
    assert not left, "it went along with the later change of its run"


def test_repaired_at_once(three: ThreeWorkspaces) -> None:
    three.settle(5)
    three.row(three.workflow).delete()
    verify.repair_now(compare(EVERYWHERE))
    assert_exact(three.host)


def test_parts_end_with_workspaces_and_cover_the_range(three: ThreeWorkspaces, configure: Configure) -> None:
    configure(AUDIT_CHUNK=2)
    for workspace, count in ((three.earlier, 1), (three.workspace, 5), (three.beyond, 1)):
        for minute in range(count):
            three.run(minute, workspace=workspace)
    lose_changes()
    parts = list(verify.parts(EVERYWHERE))
    texts = [history.workspace_text(each) for each in (three.earlier, three.workspace, three.beyond)]
    assert [(part.last, part.runs) for part in parts] == [(texts[1], 6), (None, 1)]
    assert {each.workspace for each in parts[0].differences} == set(texts[:2])
    (part,) = verify.parts(Range(first=texts[2]))
    assert {each.workspace for each in part.differences} == {texts[2]}
    assert verify.runs_of(EVERYWHERE) == 7


def test_a_giant_workspace_is_compared_in_pieces(three: ThreeWorkspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST_RUNS", 2)
    for minute in range(7):
        three.run(minute, workflow=three.host.make_workflow())
    lose_changes()
    asked: list[Any] = []
    whole = compare

    def counting(among: Range, **how: Any) -> Any:
        asked.append(how["part"])
        return whole(among, **how)

    monkeypatch.setattr(verify, "compare", counting)
    (part,) = verify.parts(EVERYWHERE)
    assert asked == [(n, 4) for n in range(4)]
    assert len(part.differences) == 14


def test_a_part_that_fails_is_noted_and_passed_over(
    three: ThreeWorkspaces, configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One workspace takes too long; the later ones are compared all the same."""
    for workspace in (three.earlier, three.workspace, three.beyond):
        three.run(5, workspace=workspace)
    lose_changes()
    configure(AUDIT_CHUNK=1)
    slow = history.workspace_text(three.workspace)
    whole = compare

    def compare_slowly(among: Range, **how: Any) -> Any:
        if among.last == slow:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '20ms'")
                try:
                    cursor.execute("SELECT pg_sleep(5)")
                finally:
                    cursor.execute("RESET statement_timeout")
        return whole(among, **how)

    monkeypatch.setattr(verify, "compare", compare_slowly)
    parts = list(verify.parts(EVERYWHERE))
    assert [bool(part.error) for part in parts] == [False, True, False, False]
    assert "statement timeout" in parts[1].error
    assert slow in parts[1].error
    assert sum(len(part.differences) for part in parts) == 4
    assert any(record.getMessage().startswith("not compared workspaces") for record in caplog.records)


@pytest.mark.timeout(90)
def test_verifying_while_writes_and_flushes_go_on_gives_no_false_alarm(three: ThreeWorkspaces) -> None:
    """No look is ever taken twice."""
    workspaces = [three.earlier, three.workspace, three.beyond]
    enough = threading.Event()

    def write() -> int:
        runs = [three.run(1, workspace=workspace) for workspace in workspaces]
        for step in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
            three.host.save_again(runs[step % 3])
            if step % 5 == 0:
                three.host.move_to_workspace(runs[step % 3], workspaces[step // 5 % 3])
            if step % 11 == 0:
                runs[step % 3].delete()
                runs[step % 3] = three.run(step, workspace=workspaces[step % 3])
        return step

    def flush_on() -> None:
        while not enough.is_set():
            flush.flush_all()

    with beside(3) as start:
        others: list[Future[Any]] = [start(write), start(write), start(flush_on)]
        try:
            found = [drift() for _ in range(25)]
        finally:
            enough.set()
        for other in others:
            other.result()
    assert found == [[]] * 25
    flush_all()
    assert_exact(three.host)


def test_the_estimate_counts_partitions(live: Any) -> None:
    """Nobody analyzes the parent of partitions; its own estimate stays 0."""
    from types import SimpleNamespace

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE parted (id int, at int) PARTITION BY RANGE (at)")
        try:
            for n in range(2):
                cursor.execute(f"CREATE TABLE parted_{n} PARTITION OF parted FOR VALUES FROM ({n}) TO ({n + 1})")
            cursor.execute("INSERT INTO parted SELECT n, n % 2 FROM generate_series(1, 3000) n")
            cursor.execute("ANALYZE parted_0; ANALYZE parted_1")
            parted = SimpleNamespace(_meta=SimpleNamespace(db_table="parted"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(verify, "host", lambda: SimpleNamespace(run=parted))
                assert verify.estimated_runs() == 3000
        finally:
            cursor.execute("DROP TABLE parted")
