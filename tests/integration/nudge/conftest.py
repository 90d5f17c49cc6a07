"""A gate in front of the real Redis, and what the real broker and Redis hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from demo.servers import Valkey
from tests import broker
from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from workflows_tasks import conf, history, keys
from workflows_tasks import host as hosts
from workflows_tasks.capture import nudge
from workflows_tasks.tasks import flush

Taken = Callable[[], list[Any]]


@pytest.fixture
def gate(configure: Configure) -> Iterator[Gate]:
    """Redis behind a gate."""
    with Gate(os.environ["REDIS_URL"]) as gate:
        configure(REDIS_URL=gate.url)
        yield gate


@pytest.fixture
def own_redis(configure: Configure, tmp_path: Path) -> Iterator[Valkey]:
    """A Redis of this test's own."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    configure(REDIS_URL=server.url)
    yield server
    server.stop()


@pytest.fixture
def taken(alone: str, celery_app_in_process: Celery) -> Taken:
    """``taken()`` takes every flush message out of the queue."""
    return lambda: broker.take_all(celery_app_in_process, alone)


def perform(*messages: Any) -> None:
    """Do what flush messages ask for, as a worker does, but at once."""
    for message in messages:
        arguments, options, _ = message.payload
        flush(*arguments, **options)


@pytest.fixture
def marker_ms(alone: str) -> Iterator[Callable[[int], int]]:
    """``marker_ms(shard)``: the marker's time to live; -2 if there is none."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield lambda shard: int(client.pttl(f"{alone}:{shard}"))


@pytest.fixture
def run(live: Host) -> Any:
    """A run that was saved while all was as it should be."""
    return live.make_run(workspace=live.make_workspace(), workflow=live.make_workflow(), user=live.make_user())


@pytest.fixture
def shard(run: Any) -> int:
    """The run's shard."""
    workspace = history.workspace_text(getattr(run, hosts.host().workspace.attname))
    return keys.shard_of(workspace, conf.settings().shards)


@pytest.fixture
def quiet(run: Any, taken: Taken) -> None:
    """Nothing is under way in the run's shard, and this process knows of nothing."""
    while waiting := taken():
        perform(*waiting)
    nudge.reset()


@pytest.fixture
def connected(gate: Gate, quiet: None, shard: int) -> Gate:
    """This process has its connection to Redis, whose greeting costs round trips of its own."""
    nudge.unmark(shard)
    return gate
