"""Messages and round trips of real savers beside a real worker, counted beside the model."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from tests import broker
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.nudge.model import Model
from tests.integration.nudge.savers import Plan, measured
from tests.integration.nudge.worker import working
from tests.oracle import assert_exact, flush_all
from workflows_tasks import conf, history, keys
from workflows_tasks.capture import nudge

pytestmark = pytest.mark.host_independent

SECONDS, PROCESSES = 3.0, 2


def runs_by_shard(live: Host) -> dict[int, Any]:
    """A run in each shard."""
    runs: dict[int, Any] = {}
    fields = {"workflow": live.make_workflow(), "user": live.make_user()}
    while len(runs) < conf.settings().shards:
        workspace = live.make_workspace()
        shard = keys.shard_of(history.workspace_text(workspace), conf.settings().shards)
        if shard not in runs:
            runs[shard] = live.make_run(workspace=workspace, **fields)
    return runs


def quieten(app: Celery, queue: str) -> None:
    """Nothing waits, and nobody believes that a message is under way."""
    flush_all()
    broker.take_all(app, queue)
    for shard in range(conf.settings().shards):
        nudge.unmark(shard)
    nudge.reset()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("redis_as_broker")
def test_never_more_messages_than_in_the_model(
    live: Host, configure: Configure, alone: str, celery_app_in_process: Celery
) -> None:
    """At the rate that the machine came to. ``python -m tests.integration.nudge.rates`` has the long table, which
    compares round trips too: a machine that flushes late makes more of them."""
    rates = [0, 0.5, 5, 44, 44, 44, 44, 44]
    runs = runs_by_shard(live)
    quieten(celery_app_in_process, alone)
    of_process = {str(runs[shard].pk): rate / PROCESSES for shard, rate in enumerate(rates)}
    with working(celery_app_in_process, alone) as worker:
        found = measured(Plan(of_process, PROCESSES, SECONDS), alone, worker)
    assert_exact(live)
    for shard, rate in enumerate(rates):
        saves, messages = found.saves.get(str(runs[shard].pk), 0), found.messages.get(shard, 0)
        assert bool(messages) == bool(saves), "a shard without saves is never flushed"
        assert messages <= 4 * found.seconds + 3
        assert messages <= most_messages(saves, found.seconds) + 2, f"shard {shard} at {rate} a second"
    assert found.round_trips <= sum(found.saves.values()) + 8 * PROCESSES


def most_messages(saves: int, seconds: float) -> int:
    """The most that a number of runs of the model came to."""
    return max(Model(saves / seconds, PROCESSES, seed=seed).run(seconds).messages for seed in range(12))


@pytest.mark.parametrize("outages", [0, 0.02, 0.3, 1])
def test_the_model_keeps_the_goals(outages: float) -> None:
    """350 saves a second over 8 shards, from six processes, cost at most 0.025 messages a save; no rate costs more than
    4 a second a shard. Redis that answers now and then, or never, costs at most a message for each process and two
    thirds of a window. Nothing is left behind."""
    for rate in (0.1, 1, 1.25, 2, 5, 10, 44, 200):
        outcome = Model(rate, 6, outages=outages).run(300)
        assert outcome.messages / outcome.seconds <= (4 if not outages else 6 * 1.5)
        assert not outcome.left
    if not outages:
        assert Model(350 / 8, 6).run(300).messages_a_save <= 0.025
