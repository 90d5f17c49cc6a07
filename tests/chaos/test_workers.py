"""Real workers and beat: a save becomes visible; whatever is killed or stopped meanwhile, nothing is lost."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from django.conf import settings
from pytest_celery import CeleryTestBroker, CeleryTestNode, CeleryTestSetup, CeleryTestWorker

from demo.servers import Valkey
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, is_idle, stored
from tests.sessions import locked
from tests.threads import waiting_for_locks
from tests.waiting import until
from workflows_tasks import conf, history, recent_workflows
from workflows_tasks.keys import shard_of
from workflows_tasks.models import Installation, Shard, WorkspaceRecentWorkflow
from workflows_tasks.monitoring import telemetry

LONG_S = 30.0
"""A busy machine takes its time; nothing here is a measurement."""

EVERY_ROW = f'SELECT FROM "{WorkspaceRecentWorkflow._meta.db_table}" FOR UPDATE'
"""While another session holds them, a flush stands still in the middle of its slice."""

once = pytest.mark.host_independent


def counters() -> dict[str, float]:
    return telemetry.merged(Shard.objects.values_list("counters", flat=True))


def until_exact(host: Host, rows: int) -> None:
    until(lambda: len(stored()) == rows and is_idle(), within_s=LONG_S)
    assert_exact(host)


def save_one(host: Host) -> Any:
    return host.make_run(workspace=host.make_workspace(), workflow=host.make_workflow(), user=host.make_user())


def test_a_save_becomes_visible(celery_setup: CeleryTestSetup, live: Host) -> None:
    """By nudges alone: there is no beat here."""
    workspace, user = live.make_workspace(), live.make_user()
    runs: list[Any] = []

    def shown(of_user: Any = None) -> bool:
        rows = recent_workflows(workspace, of_user, limit=9)
        return [row.last_run_id for row in rows] == [run.pk for run in reversed(runs)]

    for _ in range(3):
        runs.append(live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user))
        until(shown, within_s=LONG_S)
    live.hide(runs.pop())
    until(lambda: shown(user), within_s=LONG_S)
    assert len(assert_exact(live)) == 4
    assert "flushed shard=" in celery_setup.worker.logs()


def test_beat_finds_what_sent_no_nudge(celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
    """Stopped for a while, it finds when it is back what was written meanwhile."""
    keys = live.make_runs(
        5, workspaces=[live.make_workspace()], workflows=[live.make_workflow()], users=[live.make_user()]
    )
    until_exact(live, 2)
    beat.kill()
    live.run_model._base_manager.filter(pk__in=keys[-2:]).update(**live.hidden)
    assert not is_idle()
    beat.container.start()
    until_exact(live, 2)
    assert Installation.objects.get().ticked_at is not None


def workspaces_of_all_shards(live: Host, count: int) -> list[Any]:
    """A new version is a scope for every shard. One without a workspace would wait for beat, which is not here."""
    chosen: dict[Any, int] = {}
    while len(chosen) < count:
        workspace = live.make_workspace()
        shard = shard_of(history.workspace_text(workspace), conf.settings().shards)
        missing = conf.settings().shards - len(set(chosen.values()))
        if shard not in chosen.values() or count - len(chosen) > missing:
            chosen[workspace] = shard
    return list(chosen)


@once
@pytest.mark.workers(FLUSH_WINDOW_S=0.5)
def test_a_burst_is_few_messages(celery_setup: CeleryTestSetup, live: Host) -> None:
    """They are bounded by windows and shards, not by saves."""
    workspaces, workflow, user = workspaces_of_all_shards(live, 20), live.make_workflow(), live.make_user()
    runs = [live.make_run(workspace=workspace, workflow=workflow, user=user) for workspace in workspaces]
    started_s = time.monotonic()
    for _ in range(20):
        for run in runs:
            live.save_again(run)
    until_exact(live, 40)
    windows = (time.monotonic() - started_s) / 0.5
    messages = len(re.findall(r"Task workflows_tasks\.tasks\.flush\[\S+ received", celery_setup.worker.logs()))
    # A shard's first windows are shorter: it was quiet before.
    assert 0 < messages <= 8 * (windows + 6)
    assert counters()["changes"] >= 20 * len(runs)


def whole(worker: CeleryTestWorker) -> None:
    """All of it at once."""
    worker.kill()
    assert worker.container.status == "exited"


def children(worker: CeleryTestWorker) -> None:
    """The processes of its pool, as the kernel does when memory runs out; the worker itself goes on."""
    for child in psutil.Process(worker.container.pid).children():
        child.send_signal(signal.SIGKILL)


@once
@pytest.mark.parametrize("kill", [whole, children])
def test_a_worker_killed_in_the_middle_of_a_slice(
    celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host, kill: Callable[[CeleryTestWorker], None]
) -> None:
    run = save_one(live)
    until_exact(live, 2)
    before = set(stored())
    with locked(EVERY_ROW):
        live.save_again(run)
        until(lambda: waiting_for_locks() == 1, within_s=LONG_S)
        kill(celery_setup.worker)
        assert set(stored()) == before
        assert not is_idle()
    if celery_setup.worker.container.status == "exited":
        celery_setup.worker.container.start()  # as by a supervisor
    until(is_idle, within_s=LONG_S)
    assert set(assert_exact(live)) != before


@once
def test_a_worker_told_to_stop_ends_its_slice(celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
    """A deploy: what it has begun is written, the rest waits for the next worker."""
    worker = celery_setup.worker
    run = save_one(live)
    until_exact(live, 2)
    with locked(EVERY_ROW):
        live.save_again(run)
        until(lambda: waiting_for_locks() == 1, within_s=LONG_S)
        worker.kill(signal.SIGTERM)
        until(lambda: "Warm shutdown" in worker.logs(), within_s=LONG_S)
        assert worker.container.status == "running"
    until(lambda: worker.container.status == "exited", within_s=LONG_S)
    assert is_idle()
    assert_exact(live)
    save_one(live)
    assert not is_idle()
    worker.container.start()
    until_exact(live, 4)


class TestBroker:
    """The broker dies with messages in it and comes back empty, while saves go on."""

    @pytest.fixture
    def celery_broker(self, own_broker: CeleryTestBroker) -> CeleryTestBroker:
        """One that may be killed."""
        return own_broker

    @once
    def test_no_save_is_lost_or_hindered(self, celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
        workspaces, workflow, user = [live.make_workspace() for _ in range(8)], live.make_workflow(), live.make_user()
        supervised = [celery_setup.worker.container, beat.container]

        def save_some() -> None:
            for workspace in workspaces:
                live.make_run(workspace=workspace, workflow=workflow, user=user)

        def settled() -> bool:
            for container in supervised:
                if container.status == "exited":  # kombu may fail to reconnect; then a supervisor acts
                    container.start()
            return is_idle()

        save_some()  # their messages are lost, or half done
        celery_setup.broker.kill()
        assert celery_setup.broker.container.status == "exited"
        save_some()
        celery_setup.broker.container.start()
        save_some()
        until(settled, within_s=LONG_S)
        assert len(assert_exact(live)) == 16


class TestRedis:
    """Redis holds nothing but markers: emptied or killed, it costs a tick."""

    @pytest.fixture
    def own_redis(self, configure: Configure, tmp_path: Path) -> Iterator[Valkey]:
        server = Valkey(tmp_path / "markers")
        server.start()
        configure(REDIS_URL=server.url, SAVE_TIMEOUT_S=0.05)
        yield server
        server.stop()

    @pytest.fixture
    def node_env(self, own_redis: Valkey, node_env: dict[str, str]) -> dict[str, str]:
        return node_env

    @once
    def test_emptied_and_killed(
        self, celery_setup: CeleryTestSetup, beat: CeleryTestNode, own_redis: Valkey, live: Host
    ) -> None:
        save_one(live)
        until_exact(live, 2)
        with redis.Redis.from_url(own_redis.url) as client:
            save_one(live)
            client.flushall()
            save_one(live)
            until_exact(live, 6)
        own_redis.stop()
        save_one(live)
        until_exact(live, 8)
        own_redis.start()
        save_one(live)
        until_exact(live, 10)


class TestPickle:
    """A host that accepts nothing but pickle, and replaces its processes after every task."""

    @pytest.fixture
    def celery_broker(self, own_broker: CeleryTestBroker) -> CeleryTestBroker:
        """A shared one would hand it the control messages of other tests' workers, which are JSON."""
        return own_broker

    @pytest.fixture
    def node_env(self, node_env: dict[str, str]) -> dict[str, str]:
        pickling = Celery("a host that pickles")  # current from here on, in this test
        pickling.conf.update(task_serializer="pickle", accept_content=["pickle"])
        assert settings.RECENT_WORKFLOWS["FLUSH_WINDOW_S"] == 0.2
        return {**node_env, "CELERY_SERIALIZER": "pickle", "CELERY_MAX_TASKS_PER_CHILD": "1"}

    @once
    def test_it_works_as_any_other(self, celery_setup: CeleryTestSetup, beat: CeleryTestNode, live: Host) -> None:
        save_one(live)
        until_exact(live, 2)
        logs = celery_setup.worker.logs
        until(lambda: len(_children_in(logs())) >= 3, within_s=LONG_S)
        assert "Task workflows_tasks.tasks.tick[" in logs(), "from beat"
        assert "ContentDisallowed" not in logs()


def _children_in(logs: str) -> set[str]:
    """The processes of the pool that have done something."""
    return set(re.findall(r"ForkPoolWorker-(\d+)\] Task workflows_tasks\.tasks\.\w+\[\S+ succeeded", logs))
