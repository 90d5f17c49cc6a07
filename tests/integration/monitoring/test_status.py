"""``status`` and the metrics: numbers of this moment, and none that are not."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest

from tests.hosts.adapter import Host
from tests.integration.monitoring.conftest import Age
from workflows_tasks.models import CHANGES, Installation, WorkspaceRecentWorkflow
from workflows_tasks.monitoring import prometheus, telemetry
from workflows_tasks.monitoring.prometheus import PREFIX, RecentWorkflowsCollector, exposition
from workflows_tasks.monitoring.status import age, ago, status

pytestmark = pytest.mark.host_independent


def test_what_waits_and_what_was_done(sound: Host, run: Any) -> None:
    now = status()
    assert (now.pending, now.oldest_s, now.in_quarantine) == (0, 0.0, 0)
    assert now.counters["rows_advanced"] >= 2
    assert min(now.counters["changes"], now.counters["slices"]) > 0
    for heartbeat_s in (now.tick_s, now.audit_s, now.flushed_s):
        assert heartbeat_s is not None
        assert 0 <= heartbeat_s < 60
    sound.save_again(run)
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{CHANGES}"')
        assert status().pending == cursor.fetchone()[0] > 0
    assert status().as_json()["pending"] == status().pending


def test_looking_writes_nothing(sound: Host) -> None:
    with CaptureQueriesContext(connection) as captured:
        status()
    assert len(captured) <= 6
    assert all(query["sql"].lstrip().startswith(("SELECT", "WITH")) for query in captured)
    Installation.objects.all().delete()
    now = status()
    assert (now.tick_s, now.capture_problems, now.rescan) == (None, [], "")
    assert not Installation.objects.exists()


def test_a_quantile_is_no_comfort_while_something_waits_longer(sound: Host, run: Any, wait: Age) -> None:
    p99_s = status().visible_s(0.99)
    assert p99_s is not None
    assert status().as_json()["visible_p99_s"] == p99_s
    sound.save_again(run)
    wait(p99_s + 100)
    now = status()
    assert now.visible_is_past
    assert now.as_json()["visible_p99_s"] is None


def test_errors_are_told_of_shards_that_have_something_to_flush(sound: Host, run: Any) -> None:
    """What a shard met before the log was emptied is past."""
    from workflows_tasks.models import Shard

    Shard.objects.update(error="as a test says")
    assert status().failing == {}
    sound.save_again(run)
    (error,) = status().failing
    assert error == "as a test says"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.004, "0.00 s"),
        (1.23, "1.2 s"),
        (190, "190 s"),
        (7_300, "2 h"),
        (200_000, "2 days"),
        (650, "11 min"),
    ],
)
def test_ages_for_people(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


def test_what_never_was() -> None:
    assert ago(None) == "never"
    assert ago(3.0) == "3.0 s ago"


def test_every_metric_is_exported_under_its_name(sound: Host, run: Any) -> None:
    sound.save_again(run)
    told = exposition()
    names = [*telemetry.GAUGES, *telemetry.PROCESS_GAUGES, *(f"{name}_total" for name in telemetry.COUNTERS)]
    names += [f"{name}_bucket" for name in telemetry.HISTOGRAMS]
    for name in names:
        assert f"\n{PREFIX}{name}" in told, name
    assert f"{PREFIX}up 1.0" in told
    now = status()
    assert f'{PREFIX}pending{{shard="0"}} {float(now.shards[0].pending)}' in told
    assert f'{PREFIX}commit_to_visible_bucket{{le="+Inf"}}' in told


def test_a_heartbeat_that_never_was_is_infinite_so_that_an_alert_sees_it(sound: Host) -> None:
    Installation.objects.update(ticked_at=None)
    assert f"{PREFIX}tick_age_seconds +Inf" in exposition()


def test_without_a_database_the_hosts_own_metrics_go_on(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    registry = CollectorRegistry(auto_describe=True)  # as the one that everybody uses
    Gauge("of_the_host", "One of its own.", registry=registry).set(7)
    monkeypatch.setattr(prometheus, "status", _away(OperationalError("away, as a test says")))
    registry.register(RecentWorkflowsCollector())
    told = generate_latest(registry).decode()
    assert "of_the_host 7.0" in told
    assert [line for line in told.splitlines() if line.startswith(PREFIX)] == [f"{PREFIX}up 0.0"]


def _away(error: Exception) -> Any:
    def raises(**_: Any) -> Any:
        raise error

    return raises


def test_rows_are_estimated_for_counting_takes_long(sound: Host, run: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {WorkspaceRecentWorkflow._meta.db_table}")
    assert status().rows == 2
