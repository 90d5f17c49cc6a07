"""The metrics for Prometheus (or OpenTelemetry's collector, which scrapes the same format).

All numbers are in Redis, so one scrape target is enough: any web process, or ``manage.py recent_workflows metrics``.
Needs the extra: ``pip install django-recent-workflows[prometheus]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workflows_tasks import events, inbox
from workflows_tasks.errors import InboxUnavailable

PREFIX: Final = "recent_workflows_"


class RecentWorkflowsCollector(Collector):
    """Register it where the project serves its metrics: ``REGISTRY.register(RecentWorkflowsCollector())``."""

    def describe(self) -> list[Metric]:
        """Nothing: a registry would else collect when this is registered, and a project not start without Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every shard. Where Redis does not answer ``up`` is 0, and all there is: other metrics of the same
        registry go on."""
        try:
            shards = inbox.status()
        except InboxUnavailable:
            shards = []
        yield GaugeMetricFamily(PREFIX + "up", events.UP, value=bool(shards))
        if shards:
            yield from _families(shards)


def _families(shards: Sequence[inbox.ShardStatus]) -> Iterator[Metric]:
    for name, told in events.GAUGES.items():
        gauge = GaugeMetricFamily(PREFIX + name, told, labels=["shard"])
        for shard in shards:
            gauge.add_metric([str(shard.shard)], shard.gauges[name])
        yield gauge
    total = events.merged(shard.stats for shard in shards)
    for name, told in events.COUNTERS.items():
        yield CounterMetricFamily(PREFIX + name, told, value=total.get(name, 0))
    for name, told in events.HISTOGRAMS.items():
        counts = list(accumulate(events.histogram(total, name)))
        bounds = [*map(str, events.BUCKETS_S), "+Inf"]
        buckets = list(zip(bounds, counts, strict=True))
        yield HistogramMetricFamily(PREFIX + name, told, buckets=buckets, sum_value=total.get(f"{name}:sum", 0))


def exposition() -> str:
    """All metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(RecentWorkflowsCollector())
    return generate_latest(registry).decode()
