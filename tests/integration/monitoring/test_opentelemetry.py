"""OpenTelemetry's own SDK, with its exporters in memory: a span of each flush and batch, and every metric."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from tests import broker
from tests.backfill.given import History, carry_out, refused, refusing, start_backfill
from tests.commands import python
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.nudge.worker import working
from tests.oracle import assert_exact
from tests.sessions import query, session
from tests.threads import beside
from tests.waiting import until
from workflows_tasks import conf, tasks
from workflows_tasks.capture import nudge
from workflows_tasks.models import Installation
from workflows_tasks.monitoring import opentelemetry, telemetry
from workflows_tasks.monitoring.prometheus import PREFIX, exposition
from workflows_tasks.monitoring.status import status
from workflows_tasks.projection import backlog

pytestmark = pytest.mark.host_independent

Metrics = dict[str, Any]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a host's SDK was given. The API lets a process set its provider once, and a test has one of its own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """A host's reader, with the instruments registered."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    opentelemetry.register(provider)
    yield reader
    provider.shutdown()


def spans(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in exported.get_finished_spans() if each.name == f"recent_workflows.{name}"]


def told(span: ReadableSpan) -> dict[str, Any]:
    assert span.attributes is not None
    return {key.removeprefix("recent_workflows."): value for key, value in span.attributes.items()}


def shard_that_waits() -> int:
    (shard,) = backlog.shards_pending()
    return shard


@pytest.mark.usefixtures("redis_as_broker")
def test_a_flush_is_linked_to_the_trace_of_the_save_that_nudged_it(
    sound: Host, run: Any, alone: str, celery_app_in_process: Celery, exported: InMemorySpanExporter
) -> None:
    """Through a real worker. What the chain sends is nobody's save, and has no link."""
    broker.take_all(celery_app_in_process, alone)
    for shard in range(conf.settings().shards):
        nudge.unmark(shard)
    nudge.reset()
    with trace.get_tracer("a host").start_as_current_span("request") as request:
        sound.save_again(run)
    shard = shard_that_waits()
    with working(celery_app_in_process, alone):
        until(lambda: len(spans(exported, "flush")) > 1, within_s=30)
    assert_exact(sound)
    first, *chained = spans(exported, "flush")
    (link,) = first.links
    save = request.get_span_context()
    assert (link.context.trace_id, link.context.span_id) == (save.trace_id, save.span_id)
    assert first.parent is None, "the work of many savers is no part of one's trace"
    assert told(first) == {"shard": shard, "changes": 1, "rows": 2, "is_busy": False}
    assert first.status.status_code == StatusCode.UNSET
    assert not any(each.links for each in chained)


def test_no_trace_travels_where_there_is_none_or_where_no_save_nudged(
    sound: Host, run: Any, alone: str, celery_app_in_process: Celery, exported: InMemorySpanExporter
) -> None:
    """The host's own instrumentation of Celery may have a span around the flush that sends the next."""
    sound.save_again(run)
    shard = shard_that_waits()
    broker.take_all(celery_app_in_process, alone)
    assert nudge.send(shard)
    with trace.get_tracer("a host").start_as_current_span("task"):
        assert nudge.send(shard, due_us=1)
    messages = broker.take_all(celery_app_in_process, alone)
    assert len(messages) == 2
    assert not any("traceparent" in message.headers for message in messages)
    tasks.flush(shard)
    (span,) = spans(exported, "flush")
    assert not span.links


def test_a_flush_that_fails_says_so_in_one_line(
    sound: Host, run: Any, exported: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """As the log does: what else the database says may quote a row."""
    sound.save_again(run)
    shard = shard_that_waits()
    with refusing("RAISE EXCEPTION 'refused' USING DETAIL = 'a row of somebody';"):
        tasks.flush(shard)
    (span,) = spans(exported, "flush")
    assert span.status.status_code == StatusCode.ERROR
    (line,) = (record for record in caplog.records if record.getMessage().startswith("flush failed"))
    assert span.status.description == line.__dict__["error"]
    assert "refused" in str(span.status.description)
    assert "somebody" not in span.to_json()
    assert not span.events
    assert told(span) == {"shard": shard}


def test_a_flush_set_to_other_shards_is_an_error_too(
    sound: Host, run: Any, configure: Configure, exported: InMemorySpanExporter
) -> None:
    configure(SHARDS=5)
    tasks.flush(0)
    (span,) = spans(exported, "flush")
    assert str(span.status.description).startswith("WrongShards: SHARDS is 5")


def test_each_batch_of_a_backfill(live: Host, alone: str, configure: Configure, exported: InMemorySpanExporter) -> None:
    configure(BACKFILL_QUEUE=alone, BACKFILL_STOP_S=600.0)
    History(live)
    progress = carry_out(start_backfill())
    batches = [told(each) for each in spans(exported, "backfill.batch")]
    for kind, phase in {"fill": progress.fill, "verify": progress.verify}.items():
        of_kind = [each for each in batches if each["kind"] == kind]
        assert sum(each["runs"] for each in of_kind) == phase.planned > 0
        assert {each["backfill"] for each in of_kind} == {progress.backfill.pk}
    assert sum(each.get("rows", 0) for each in batches) == progress.fill.rows > 0
    assert {each.get("drift", 0) for each in batches} == {0}
    assert all(each.status.status_code == StatusCode.UNSET for each in spans(exported, "backfill.batch"))


def test_a_batch_that_is_refused(live: Host, alone: str, configure: Configure, exported: InMemorySpanExporter) -> None:
    configure(BACKFILL_QUEUE=alone, BACKFILL_STOP_S=600.0)
    history = History(live)
    with refused(history.newest(history.light[0])):
        carry_out(start_backfill())
    failed = [each for each in spans(exported, "backfill.batch") if each.status.status_code == StatusCode.ERROR]
    assert failed
    assert all("refused, whoever asks" in str(each.status.description) for each in failed)


def collected(reader: InMemoryMetricReader) -> Metrics:
    """Metrics by name."""
    data = reader.get_metrics_data()
    assert data is not None
    return {m.name: m for of in data.resource_metrics for scope in of.scope_metrics for m in scope.metrics}


def values(metric: Any) -> dict[tuple[tuple[str, Any], ...], float]:
    """Values by labels."""
    return {tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points}


def test_every_metric_is_the_one_that_prometheus_is_told(sound: Host, run: Any, reader: InMemoryMetricReader) -> None:
    """By name, labels, description and value."""
    sound.save_again(run)
    metrics = collected(reader)
    expected: dict[str, dict[tuple[tuple[str, Any], ...], float]] = {}
    for family in text_string_to_metric_families(exposition()):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")
            assert metrics[name].description == family.documentation
            assert metrics[name].unit == "", "a translation would put it into the name"
            expected.setdefault(name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    ages = {name for name in expected if name.endswith(("_age_seconds", "oldest_change_seconds"))}
    for name in metrics:
        assert values(metrics[name]).keys() == expected[name].keys(), name
        if name not in ages:
            assert values(metrics[name]) == expected[name], name
    assert metrics.keys() == expected.keys()
    every = {**telemetry.GAUGES, **telemetry.PROCESS_GAUGES, **telemetry.COUNTERS, "up": telemetry.UP}
    for name, description in every.items():
        assert metrics[PREFIX + name].description == description
    for name in telemetry.COUNTERS:
        assert metrics[PREFIX + name].data.is_monotonic
    for name in telemetry.HISTOGRAMS:
        assert not any(metrics[f"{PREFIX}{name}_{part}"].data.is_monotonic for part in ("bucket", "sum", "count"))
        assert values(metrics[f"{PREFIX}{name}_count"])[()] > 0


def test_a_heartbeat_that_never_was_is_not_observed(
    sound: Host, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK takes no infinite value, and would warn of it each time."""
    Installation.objects.update(ticked_at=None)
    metrics = collected(reader)
    assert f"{PREFIX}tick_age_seconds" not in metrics or not values(metrics[f"{PREFIX}tick_age_seconds"])
    assert values(metrics[f"{PREFIX}audit_age_seconds"])
    assert not caplog.records


def test_one_reading_serves_all_instruments_and_no_later_collection(
    sound: Host, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opentelemetry, "KEPT_S", 60.0)  # however slow this machine is
    with CaptureQueriesContext(connection) as captured:
        assert len(collected(reader)) > 20
    assert 0 < len(captured) <= 6
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 61)
    with CaptureQueriesContext(connection) as captured:
        collected(reader)
    assert 0 < len(captured) <= 6


def test_the_sdks_own_thread_keeps_no_connection_longer_than_a_request_does(
    sound: Host, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)

    def collects() -> object:
        assert values(collected(reader)[f"{PREFIX}up"]) == {(): 1}
        return connection.connection

    with beside() as start:
        assert start(collects).result(timeout=30) is None


def test_a_connection_that_the_server_ended_is_made_anew(
    sound: Host, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opentelemetry, "KEPT_S", 0.0)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)

    def collects() -> list[float]:
        ((backend,),) = query("SELECT pg_backend_pid()")
        with session() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        return [values(collected(reader)[f"{PREFIX}up"])[()] for _ in range(2)]

    with beside() as start:
        assert start(collects).result(timeout=30) == [0, 1]


def test_without_a_database_only_up_is_observed(
    sound: Host, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise OperationalError("away, as a test says")

    with monkeypatch.context() as outage:
        outage.setattr(opentelemetry, "status", away)
        outage.setattr(opentelemetry, "KEPT_S", 0.0)
        metrics = collected(reader)
    seen = {name: values(metric) for name, metric in metrics.items() if metric.data.data_points}
    assert seen == {f"{PREFIX}up": {(): 0}}
    assert values(collected(reader)[f"{PREFIX}up"]) == {(): 1}
    assert status().shards


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
import django
django.setup()
from workflows_tasks.capture import nudge
from workflows_tasks.monitoring import spans
assert not spans.INSTALLED
assert spans.headers() == {}
with spans.span("flush", shard=1) as tell:
    tell(changes=1)
try:
    import workflows_tasks.monitoring.opentelemetry
except ImportError:
    print("only that")
"""


def test_without_the_package_nothing_fails_but_the_import_of_the_extras_module() -> None:
    assert python("-c", WITHOUT) == (0, "only that\n")
