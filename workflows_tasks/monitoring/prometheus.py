"""The metrics for Prometheus (or OpenTelemetry's collector, which scrapes the same format).

All numbers are in the database, so one scrape target is enough: any web process, or ``manage.py recent_workflows
metrics``. Needs the extra: ``pip install django-recent-workflows[prometheus]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Final

from django.db import DatabaseError, InterfaceError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workflows_tasks.monitoring import telemetry
from workflows_tasks.monitoring.status import Status, status

PREFIX: Final = "recent_workflows_"


class RecentWorkflowsCollector(Collector):
    """Register it where the project serves its metrics: ``REGISTRY.register(RecentWorkflowsCollector())``."""

    def describe(self) -> list[Metric]:
        """Empty: or the registry would collect at once, and a project could not start without its database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every shard. If the database does not answer, ``up`` is 0 and the only metric; the host's own go on."""
        now: Status | None = None
        with suppress(DatabaseError, InterfaceError):
            now = status()
        yield GaugeMetricFamily(PREFIX + "up", telemetry.UP, value=now is not None)
        if now is not None:
            yield from _families(now)


def _families(now: Status) -> Iterator[Metric]:
    for name, description in telemetry.GAUGES.items():
        gauge = GaugeMetricFamily(PREFIX + name, description, labels=["shard"])
        for shard in now.shards:
            gauge.add_metric([str(shard.shard)], shard.gauges[name])
        yield gauge
    for name, description in telemetry.PROCESS_GAUGES.items():
        yield GaugeMetricFamily(PREFIX + name, description, value=now.gauges[name])
    total = now.counters
    for name, description in telemetry.COUNTERS.items():
        yield CounterMetricFamily(PREFIX + name, description, value=total.get(name, 0))
    for name, description in telemetry.HISTOGRAMS.items():
        counts = list(accumulate(telemetry.histogram(total, name)))
        bounds = [*map(str, telemetry.BUCKETS_S), "+Inf"]
        buckets = list(zip(bounds, counts, strict=True))
        yield HistogramMetricFamily(PREFIX + name, description, buckets=buckets, sum_value=total.get(f"{name}:sum", 0))


def exposition() -> str:
    """All metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(RecentWorkflowsCollector())
    return generate_latest(registry).decode()
