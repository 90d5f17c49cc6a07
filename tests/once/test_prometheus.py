"""The collector in a registry that a host has other metrics in."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest

from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from workflows_tasks.prometheus import PREFIX, RecentWorkflowsCollector, exposition


def test_without_redis_the_hosts_own_metrics_go_on(configure: Configure) -> None:
    registry = CollectorRegistry(auto_describe=True)  # as the one that everybody uses
    Gauge("of_the_host", "One of its own.", registry=registry).set(7)
    with Gate(os.environ["REDIS_URL"]) as gate:
        configure(REDIS_URL=gate.url)
        registry.register(RecentWorkflowsCollector())
        assert gate.connections == 0, "a project that starts is not kept waiting"
    told = generate_latest(registry).decode()
    assert "of_the_host 7.0" in told
    assert [line for line in told.splitlines() if line.startswith(PREFIX)] == [f"{PREFIX}up 0.0"]


def test_with_it_there_is_everything(live: Host) -> None:
    told = exposition()
    assert f"{PREFIX}up 1.0" in told
    assert f'{PREFIX}pending{{shard="0"}} 0.0' in told
    assert f"{PREFIX}flushes_total " in told
